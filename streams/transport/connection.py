"""aiokafka's connections on uvloop: one that is gone is an error of Kafka's, which is tried again.

Between the moment a connection breaks and the moment its reader hears of it, uvloop refuses a write with a
RuntimeError where asyncio drops it. aiokafka expects an OSError alone (its issue 1038): a single reset in the
wrong moment ended fetching, or a poll, and with it the worker.
"""

from collections.abc import Awaitable
from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

__all__ = ["MendedConnection", "mend_connections"]


class MendedConnection(AIOKafkaConnection):
    """A connection that is closed, with a KafkaConnectionError, when a write to it is refused."""

    def send(
        self, request: Any, expect_response: bool = True
    ) -> Awaitable[Any]:  # aiokafka's own request types
        """As aiokafka's."""
        try:
            answer: Awaitable[Any] = super().send(request, expect_response)
        except RuntimeError as error:
            raise self._told(error) from None
        return answer

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Awaitable[Any]:
        try:
            answer: Awaitable[Any] = super()._send_sasl_token(payload, expect_response)
        except RuntimeError as error:
            raise self._told(error) from None
        return answer

    def _told(self, error: RuntimeError) -> KafkaError:
        if isinstance(error, KafkaError):  # itself a RuntimeError
            return error
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        return KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}")


def mend_connections() -> None:
    """Have every aiokafka client of this process make such connections."""
    aiokafka.conn.AIOKafkaConnection = MendedConnection
