"""aiokafka's transactions, opened at the broker before there is anything to put in.

aiokafka tells the coordinator of a partition with its first record, and of the consumer group with its first
offsets: four requests one after the other stand between a result and its readers. Opened ahead, the first two
of them, and the wait until the broker has finished the transaction before, pass while records are still being
scored; what is scored meanwhile comes along. The order of requests stays the sender's.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.producer import sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

__all__ = ["EagerTransactions"]

AGAIN_SECONDS: Final = 0.01
"""Between two questions whether the transaction before is finished. aiokafka takes 20 ms."""
sender.BACKOFF_OVERRIDE = AGAIN_SECONDS


class EagerTransactions(TransactionManager):
    """Adds the consumer group as soon as a transaction has begun, and tells when the broker has it."""

    def __init__(self, transactional_id: str, transaction_timeout_ms: int, group: str) -> None:
        super().__init__(transactional_id, transaction_timeout_ms)
        self._group = group
        self._opened = asyncio.Event()

    @classmethod
    def put_into(cls, client: AIOKafkaProducer, group: str) -> "EagerTransactions":
        """Let `client`, which is not started, work with a new object of this class."""
        before = client._txn_manager
        eager = cls(before.transactional_id, before.transaction_timeout_ms, group)
        client._txn_manager = client._message_accumulator._txn_manager = client._sender._txn_manager = eager
        return eager

    async def open(self, partitions: Iterable[TopicPartition]) -> None:
        """After `begin_transaction`: returns when the broker has added `partitions` and the group."""
        self._opened.clear()
        for tp in partitions:
            self.maybe_add_partition_to_txn(tp)
        self.notify_task_waiter()
        opened = asyncio.ensure_future(self._opened.wait())
        failed = self.wait_for_transaction_end()
        try:
            await asyncio.wait({opened, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
        finally:
            opened.cancel()

    def consumer_group_to_add(self) -> str | None:
        """The group, once a transaction; the sender asks after the partitions are added."""
        return self._group if self.is_in_transaction() and self._txn_consumer_group is None else None

    def consumer_group_added(self, group_id: str) -> None:
        """The broker has it."""
        super().consumer_group_added(group_id)
        self._opened.set()
