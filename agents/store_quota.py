"""Drops waiting anomalies at the quota's high-water mark: lowest severity first, oldest first within one.

For each run of at most DROPPED_TOGETHER_MAX anomalies of one partition, in order:
  1. read what waits from the bridge's commit on, and choose
  2. leave out what has an outcome: `deliveries` is read, and what the bridge settles meanwhile is told
  3. write the outcome `dropped-by-quota` for each, and one `audit` record for all, which is delivered
  4. when the broker has acknowledged those, write the tombstones that make room
A crash before 4 leaves records with an outcome in the store; they go when their retention is over. An anomaly
in the bridge's hand may arrive all the same: then its newest outcome is acknowledged.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka import ConsumerRecord

from ..schemas.records import DeliveryRecord, DroppedRecord, Outcome
from ..schemas.severity import Severity
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from . import metrics
from .departures import AUDIT_PARTITION
from .outbox import Outbox
from .settings import Settings
from .store_selection import decoded
from .topic_reader import TopicReader

__all__ = ["DROPPED_TOGETHER_MAX", "QuotaKeeper"]

log = logging.getLogger(__name__)

DROPPED_TOGETHER_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    severity: str
    size: int
    detected_at: int


@dataclass(frozen=True, slots=True)
class _Run:
    count: int
    size: int
    next_offset: int


class QuotaKeeper:
    """Makes room when told how much is wanted."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._settings = settings
        self._names = settings.topics
        self._outbox = outbox
        self._chosen: dict[bytes, _Candidate] = {}

    def settled(self, keys: Iterable[bytes | None]) -> None:
        """These have their outcome now; they are no candidates any more."""
        if self._chosen:
            for key in keys:
                if key is not None:
                    self._chosen.pop(key, None)

    async def drop(self, reader: TopicReader, committed: Mapping[int, int], wanted_bytes: int) -> int:
        """Drop what waits above the commits, until `wanted_bytes` are freed or nothing waits; how many."""
        bounds = await reader.bounds(self._names.anomalies)
        count, left = 0, wanted_bytes
        for severity in Severity:
            spans = {
                number: (max(bounds[number][0], committed[number]), bounds[number][1]) for number in committed
            }
            while left > 0 and spans:
                # The same share of each partition, so that no device pays for all.
                share = -(-left // len(spans))
                for partition, span in list(spans.items()):
                    run = await self._drop_run(reader, partition, span, severity.value, min(share, left))
                    count, left = count + run.count, left - run.size
                    if run.next_offset >= span[1]:
                        del spans[partition]
                    else:
                        spans[partition] = (run.next_offset, span[1])
        if count:
            log.warning("the store's quota: %d anomalies dropped, lowest severity first; see `audit`", count)
        else:
            log.error("the store's quota is reached and nothing waits that could be dropped")
        return count

    async def _drop_run(
        self, reader: TopicReader, partition: int, span: tuple[int, int], severity: str, wanted: int
    ) -> "_Run":
        if wanted <= 0:
            return _Run(0, 0, span[0])
        try:
            next_offset = await self._choose(reader, partition, span, severity, wanted)
            if self._chosen:
                await self._forget_settled(reader, partition)
            chosen = dict(self._chosen)
            if chosen:
                # No await from here to the queueing: an outcome of the bridge comes before or after, whole.
                await self._write(partition, chosen)
        finally:
            self._chosen.clear()
        return _Run(len(chosen), sum(candidate.size for candidate in chosen.values()), next_offset)

    async def _choose(
        self, reader: TopicReader, partition: int, span: tuple[int, int], severity: str, wanted: int
    ) -> int:
        """Note candidates of `severity` worth `wanted` bytes; returns where the next choice begins."""
        size = 0
        async for records in reader.records_between(self._names.anomalies, {partition: span}):
            for record in records:
                anomaly = decoded(record.value)
                # What is damaged is left to the bridge, which sets it aside.
                if anomaly is None or anomaly.get("severity") != severity:
                    continue
                detected_at = anomaly.get("detected_at")
                if not isinstance(detected_at, int) or record.key in self._chosen:
                    continue
                self._chosen[record.key] = _Candidate(severity, _size(record), detected_at)
                size += _size(record)
                if size >= wanted or len(self._chosen) >= DROPPED_TOGETHER_MAX:
                    return int(record.offset) + 1
        return span[1]

    async def _forget_settled(self, reader: TopicReader, partition: int) -> None:
        bounds = await reader.bounds(self._names.deliveries)
        if partition in bounds:
            async for records in reader.records_between(
                self._names.deliveries, {partition: bounds[partition]}
            ):
                # A tombstone too: whatever had an outcome is no loss of this drop's.
                self.settled([record.key for record in records])

    async def _write(self, partition: int, chosen: Mapping[bytes, _Candidate]) -> None:
        now_ms = time.time_ns() // 1_000_000
        identity = uuid.uuid4().hex
        quota = self._settings.store_quota_bytes
        assert quota is not None
        outcomes, tombstones = Columns(), Columns()
        for key, candidate in chosen.items():
            record = DeliveryRecord(
                id=key.decode(errors="replace"),
                outcome=Outcome.DROPPED_BY_QUOTA.value,
                batch=identity,
                time=now_ms,
                detail=f"severity {candidate.severity}, found {candidate.detected_at}, quota {quota} bytes",
                digest=None,
                resent=None,
            )
            outcomes.keys.append(key)
            outcomes.values.append(encode(record))
            tombstones.keys.append(key)
            tombstones.values.append(None)
        times = [candidate.detected_at for candidate in chosen.values()]
        audit = DroppedRecord(
            kind="dropped",
            site=self._settings.site,
            id=identity,
            time=now_ms,
            partition=partition,
            count=len(chosen),
            severities=dict(Counter(candidate.severity for candidate in chosen.values())),
            bytes=sum(candidate.size for candidate in chosen.values()),
            first_time=min(times),
            last_time=max(times),
            quota_bytes=quota,
        )
        told = Columns([self._settings.site.encode()], [encode(audit)])
        # Step 3.
        await self._outbox.put_all(
            [
                (self._names.audit, AUDIT_PARTITION, told),
                (self._names.deliveries, partition, outcomes),
            ]
        )
        metrics.DELIVERIES.labels(Outcome.DROPPED_BY_QUOTA.value).inc(len(chosen))
        # Step 4.
        await self._outbox.put_all([(self._names.anomalies, partition, tombstones)])


def _size(record: ConsumerRecord) -> int:
    return len(record.key) + len(record.value)
