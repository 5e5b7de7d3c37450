"""Writes outcomes to `deliveries` and what left to `audit`; holds a sender while the broker takes none.

Guarantee: at most two parcels of outcomes of one writer wait for the broker, so that a crash can make the
bridge forget no more than that; outcomes are counted once the broker has them.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Protocol

from ..schemas.records import Outcome
from ..schemas.topics import TopicNames
from ..streams.scoring.pipeline import Columns
from . import metrics
from .departures import AUDIT_PARTITION
from .outbox import Outbox, Settlement

__all__ = ["OutcomeWriter"]


class _Taken(Protocol):
    def take(self) -> tuple[Columns, Columns, Counter[Outcome]]: ...


class OutcomeWriter:
    """For one batch of one partition; `settlement` is done when the broker has all that was written."""

    def __init__(self, outbox: Outbox, names: TopicNames, partition: int, settlement: Settlement) -> None:
        self._outbox = outbox
        self._names = names
        self._partition = partition
        self._settlement = settlement
        self._last: asyncio.Event | None = None

    async def write(self, outcomes: _Taken) -> None:
        """Queue what there is; returns when what was queued before is acknowledged."""
        columns, audit, counts = outcomes.take()
        before, self._last = self._last, asyncio.Event()
        self._settlement.expect()
        parcel = Settlement(2 if len(audit) else 1, partial(self._acknowledged, self._last, counts))
        # What left first: a delivery whose batch has no audit record would tell of an unknown policy.
        if len(audit):
            self._outbox.put(self._names.audit, AUDIT_PARTITION, audit, parcel)
        self._outbox.put(self._names.deliveries, self._partition, columns, parcel)
        if before is not None:
            await before.wait()

    def _acknowledged(self, done: asyncio.Event, counts: Counter[Outcome]) -> None:
        done.set()
        for outcome, count in counts.items():
            metrics.DELIVERIES.labels(outcome.value).inc(count)
        self._settlement.parcel_done()
