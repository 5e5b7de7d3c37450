"""A Faust schema that leaves a batch as it is: decoding is the agent's work, a batch at a time."""

from collections.abc import Awaitable, Callable

import faust
from faust.events import Event
from faust.types import AppT, EventT, Message

__all__ = ["BatchSchema"]


class BatchSchema(faust.Schema):
    """Keys are absent, values are `PartitionBatch`."""

    def compile(
        self,
        app: AppT,
        *,
        on_key_decode_error: object = None,
        on_value_decode_error: object = None,
        default_propagate: bool = False,
    ) -> Callable[..., Awaitable[EventT]]:
        """A decoder that wraps the message and touches nothing."""

        async def decode(message: Message, *, propagate: bool = default_propagate) -> EventT:
            return Event(app, None, message.value, None, message)

        return decode
