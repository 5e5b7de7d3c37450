"""Retires what is settled and has been kept long enough: tombstones for the anomaly and its delivery record.

Follows `deliveries`, which is written in the order of time, from a place kept by commits, and stops at the
first record that is younger than the retention. Guarantees: only outcomes that are asked for are retired, and
none that another has followed or is going to: what was sent again on request, and waits for the line or has
its new outcome, stays (`store_resent.py`); a crash repeats tombstones and no more; at most
RETIRED_TOGETHER_MAX keys and one fetch are held. What was never delivered is told on `audit` before it goes,
since nothing else would know of it; a crash may tell it twice. Not guaranteed: that what is sent again in the
very moment between a look and its tombstones stays.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from itertools import takewhile
from typing import Final

from aiokafka import ConsumerRecord

from ..schemas.records import Outcome, RetiredRecord
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from . import metrics
from .departures import AUDIT_PARTITION
from .outbox import Outbox
from .settings import Settings
from .store_resent import ResentMarks
from .store_selection import decoded
from .topic_reader import TopicReader

__all__ = ["RETIRED_TOGETHER_MAX", "Retirement"]

RETIRED_TOGETHER_MAX: Final = 10_000
_DAY_SECONDS: Final = 86_400.0


class Retirement:
    """Of some outcomes after some days. Two of them need two readers: each keeps its own place."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        outcomes: Collection[Outcome],
        days: float,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._names = settings.topics
        self._outbox = outbox
        self._outcomes = frozenset(outcome.value for outcome in outcomes)
        self._days = days
        self._wall_clock = wall_clock
        self._wait_again = ResentMarks(self._names.anomalies)
        self._settled_again = ResentMarks(self._names.deliveries)

    async def look(
        self, reader: TopicReader, owned: frozenset[int], committed: Mapping[int, int | None]
    ) -> None:
        """Retire what has become old since the last look; `committed` is the bridge's, read beforehand."""
        for partition, (start, end) in sorted((await reader.bounds(self._names.deliveries)).items()):
            if partition in owned:
                place = max(start, await reader.place(self._names.deliveries, partition) or 0)
                while await self._some(reader, partition, (place, end), committed.get(partition) or 0):
                    place = await reader.place(self._names.deliveries, partition) or end

    async def _some(self, reader: TopicReader, partition: int, span: tuple[int, int], committed: int) -> bool:
        """Retire a bounded number from the start of `span` on; whether there may be more."""
        start, end = span
        old_ms = (self._wall_clock() - self._days * _DAY_SECONDS) * 1000
        found: dict[bytes, int] = {}
        place, more = start, False
        async for records in reader.records_between(self._names.deliveries, {partition: (start, end)}):
            # Written in the order of time: after the first that is young all are.
            old = list(takewhile(lambda record: record.timestamp < old_ms, records))
            self._note(old, found)
            if old:
                place = old[-1].offset + 1
            more = len(old) == len(records)
            if not more or len(found) >= RETIRED_TOGETHER_MAX:
                break
        else:
            more = False
        if found:
            # In this order: what the commit has passed meanwhile has its outcome in the second.
            await self._wait_again.forget_marked(reader, partition, committed, found)
            await self._settled_again.forget_marked(reader, partition, place, found)
        await self._retire(partition, found)
        if place > start:
            await reader.keep_place(self._names.deliveries, partition, place)
        return more and place < end

    def _note(self, records: list[ConsumerRecord], found: dict[bytes, int]) -> None:
        for record in records:
            delivery = decoded(record.value)
            if delivery is not None and delivery.get("outcome") in self._outcomes:
                found[record.key] = int(record.timestamp)
            else:
                found.pop(record.key, None)

    async def _retire(self, partition: int, found: dict[bytes, int]) -> None:
        if not found:
            return
        if Outcome.HELD_BACK.value in self._outcomes:
            told = Columns([self._settings.site.encode()], [encode(self._told(partition, found))])
            await self._outbox.put_all([(self._names.audit, AUDIT_PARTITION, told)])
        for topic in (self._names.anomalies, self._names.deliveries):
            columns = Columns(list(found), [None] * len(found))
            await self._outbox.put_all([(topic, partition, columns)])
        metrics.STORE_RETIRED.inc(len(found))

    def _told(self, partition: int, found: dict[bytes, int]) -> RetiredRecord:
        return RetiredRecord(
            kind="retired",
            site=self._settings.site,
            id=uuid.uuid4().hex,
            time=int(self._wall_clock() * 1000),
            partition=partition,
            outcome=Outcome.HELD_BACK.value,
            count=len(found),
            first_time=min(found.values()),
            last_time=max(found.values()),
        )
