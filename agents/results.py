"""The way out for what becomes of a batch, whatever is guaranteed; a scorer knows no more of it than this."""

from collections.abc import Callable, Sequence
from typing import Protocol

import faust

from ..streams.scoring.pipeline import Columns
from ..streams.transport.app import batch_of
from .outbox import Outbox, Settlement

__all__ = ["AcknowledgedResults", "Parcels", "ResultSink"]

Parcels = Sequence[tuple[str, Columns]]
"""Records by topic, none of them empty; each goes to the partition of the batch it came from."""


class ResultSink(Protocol):
    """Takes the results of batches, in the order of batches within a partition."""

    def put(self, event: faust.Event, parcels: Parcels, on_settled: Callable[[], None]) -> None:
        """Queue everything that becomes of `event`'s batch; `on_settled` is called once it is safe.

        A batch that is taken away meanwhile is dropped without a call: it is read again.
        """

    def pause(self) -> str | None:
        """Why waiting is meant, in words; None when nothing is waited for."""

    async def close(self) -> None:
        """Stop; what is not safe by now is read again."""


class AcknowledgedResults:
    """At least once: a batch is settled when the broker has acknowledged all its records."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def put(self, event: faust.Event, parcels: Parcels, on_settled: Callable[[], None]) -> None:
        """Each parcel to the lane of its output partition."""
        partition = batch_of(event).partition
        settlement = Settlement(len(parcels), on_settled)
        for topic, columns in parcels:
            self._outbox.put(topic, partition, columns, settlement)

    def pause(self) -> str | None:
        """As the outbox says."""
        return self._outbox.pause()

    async def close(self) -> None:
        """Nothing of its own: the outbox is the app's."""
