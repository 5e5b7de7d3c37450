"""`farshore score` with a fault in the program: aiokafka's sender of partition 0 raises with every record.

UNEXPECTED_MAX is 3, so that a test need not wait for ten.
"""

from __future__ import annotations

from typing import Any

from aiokafka.producer.sender import Sender

from farshore.agents import transaction_failures
from farshore.agents.commands.main import run

_send = Sender._send_produce_req


async def send_or_fail(self: Sender, node_id: int, batches: Any) -> None:
    txn = self._txn_manager
    if txn is not None and txn.transactional_id is not None and txn.transactional_id.endswith(".0"):
        raise TypeError("a fault in the program")
    await _send(self, node_id, batches)


if __name__ == "__main__":
    transaction_failures.UNEXPECTED_MAX = 3  # type: ignore[misc]
    Sender._send_produce_req = send_or_fail
    run()
