"""aiokafka's connections on uvloop: one that is gone is an error of Kafka's, which is tried again.

Between the moment a connection breaks and the moment its reader hears of it, uvloop refuses a write with a
RuntimeError where asyncio drops it. aiokafka expects an OSError alone (its issue 1038): a single reset in the
wrong moment ended fetching, or a poll, and with it the worker.
"""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
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
        with self._refusals_told():
            answer: Awaitable[Any] = super().send(request, expect_response)
        return answer

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Awaitable[Any]:
        with self._refusals_told():
            answer: Awaitable[Any] = super()._send_sasl_token(payload, expect_response)
        return answer

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        try:
            yield
        except KafkaError:  # itself a RuntimeError
            raise
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from None


def mend_connections() -> None:
    """Have every aiokafka client of this process make such connections."""
    aiokafka.conn.AIOKafkaConnection = MendedConnection
