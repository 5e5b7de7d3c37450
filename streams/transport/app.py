"""A Faust app over the batch transport, and what an agent needs to settle a batch."""

import logging
from typing import Final, cast

import faust

from .batch import PartitionBatch
from .message import BatchMessage
from .positions import ReadingWatch
from .settings import TransportSettings

__all__ = ["SERVICE_LOG", "BatchApp", "batch_of", "settle"]

SERVICE_LOG: Final = logging.getLogger("faust.farshore")
"""Where our Faust services tell of their starts, stops and crashes: silent together with Faust's own.

By itself Faust would log them under our modules' names, as if a change of its inside were one of the site.
"""


class BatchApp(faust.App):
    """A Faust app whose consumer and producer follow `transport_settings`; `reading_watch` hears of gaps."""

    logger = SERVICE_LOG
    transport_settings: TransportSettings
    reading_watch: ReadingWatch
    progress = 0
    """Grows with every batch settled, every commit and every attempt: what a worker's liveness looks at."""

    def note_progress(self) -> None:
        """Something got on."""
        self.progress += 1

    async def _producer_flush(self, logger: object) -> None:
        """Nothing to do: a batch is settled by its acknowledgements; a flush would wait for the broker."""

    def _on_rebalance_when_stopped(self) -> None:
        """Nothing to do: Faust would close the reader's client from the wrong loop; the stop closes it."""


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
