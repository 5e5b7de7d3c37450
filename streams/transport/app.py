"""A Faust app over the batch transport, and what an agent needs to settle a batch."""

from typing import cast

import faust

from .batch import PartitionBatch
from .message import BatchMessage
from .settings import TransportSettings

__all__ = ["BatchApp", "batch_of", "settle"]


class BatchApp(faust.App):
    """A Faust app whose consumer and producer follow `transport_settings`."""

    transport_settings: TransportSettings


def batch_of(event: faust.Event) -> PartitionBatch:
    """The batch that an event of a batch topic carries."""
    return cast(PartitionBatch, event.value)


def settle(event: faust.Event) -> None:
    """Every effect of this event's batch is acknowledged: its offsets may be committed.

    Faust acknowledges by itself what it skips in a rebalance; without this mark such a batch, which nobody
    has worked on, would be committed.
    """
    message = cast(BatchMessage, event.message)
    message.settled = True
    event.ack()
