"""The site's memory of what was read and what never was, kept on the `audit` topic.

Guarantees: a gap is acknowledged there before the first commit past it; each is one warning line and counted
in `farshore_gaps_total` and, where its size is known, in `farshore_records_lost_total`.

Kafka deletes a group's commits together with their topic, so which life of a topic a group reads is
remembered here, where it outlives that topic. It is read back only for partitions whose commit does not tell,
so not at an ordinary start.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, cast
from uuid import UUID

from aiokafka.errors import KafkaError

from ..schemas.reasons import GapReason
from ..schemas.records import GapRecord, ReadingRecord
from ..streams.scoring.codec import NotJsonError, decode, encode
from ..streams.scoring.pipeline import Columns
from ..streams.transport.positions import Gap, Reading
from . import metrics
from .errors import BrokerAbsentError
from .outbox import Outbox, Settlement
from .output_room import OutputRoom
from .settings import Settings
from .topic_reader import open_reader

__all__ = ["AUDIT_PARTITION", "AuditWatch", "audit_records"]

AUDIT_PARTITION: Final = 0
"""The topic has one, so that its order is one."""

_RETRY_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class AuditWatch:
    """A worker's ReadingWatch: `group` is the one it reads in."""

    def __init__(self, settings: Settings, group: str, outbox: Outbox, room: OutputRoom) -> None:
        self._settings = settings
        self._group = group
        self._outbox = outbox
        self._room = room

    async def before_reading(self, partition_counts: Mapping[str, int]) -> None:
        """Results of these partitions can be written afterwards; raises TopicError."""
        await self._room.make(max(partition_counts.values(), default=0))

    async def known_lives(self, partitions: Collection[tuple[str, int]]) -> dict[tuple[str, int], UUID]:
        """Which life of each (topic, partition) this group read last, by `audit`."""
        while True:
            try:
                lives = await self._read_lives()
            except (BrokerAbsentError, KafkaError):
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return {place: lives[place] for place in partitions if place in lives}

    async def note(self, gaps: Sequence[Gap], readings: Sequence[Reading]) -> None:
        """Warn, count and write down; returns when acknowledged. Gaps first: a crash tells them again."""
        now_ms = time.time_ns() // 1_000_000
        records: list[object] = [_gap_record(gap, self._group, now_ms) for gap in gaps]
        records += [_reading_record(reading, self._group, now_ms) for reading in readings]
        columns = Columns([self._settings.site.encode()] * len(records), [encode(each) for each in records])
        acknowledged = asyncio.Event()
        settlement = Settlement(1, acknowledged.set)
        self._outbox.put(self._settings.topic_audit, AUDIT_PARTITION, columns, settlement)
        await acknowledged.wait()
        for gap in gaps:
            log.warning("%s", _sentence(gap))
            metrics.GAPS.labels(gap.topic, gap.reason.value).inc()
            if gap.start is not None and gap.end is not None:
                metrics.RECORDS_LOST.labels(gap.topic, gap.reason.value).inc(gap.end - gap.start)

    async def _read_lives(self) -> dict[tuple[str, int], UUID]:
        lives = {}
        async with open_reader(self._settings.kafka_bootstrap) as reader:
            async for group in reader.records(self._settings.topic_audit):
                for record in audit_records(record.value for record in group):
                    if record["kind"] == "reading" and record["group"] == self._group:
                        place = (record["topic"], record["partition"])
                        lives[place] = UUID(record["topic_id"])
        return lives


def audit_records(values: Iterable[bytes | None]) -> Iterable[GapRecord | ReadingRecord]:
    """The gaps and readings among values of `audit`; other kinds of records, and foreign ones, are passed."""
    for value in values:
        try:
            record = decode(value or b"null")
        except NotJsonError:
            continue
        if isinstance(record, dict) and record.get("kind") == "gap":
            yield cast(GapRecord, record)
        elif isinstance(record, dict) and record.get("kind") == "reading":
            yield cast(ReadingRecord, record)


def _gap_record(gap: Gap, group: str, now_ms: int) -> GapRecord:
    return {
        "kind": "gap",
        "group": group,
        "topic": gap.topic,
        "topic_id": None if gap.life is None else str(gap.life),
        "partition": gap.partition,
        "from": gap.start,
        "to": gap.end,
        "reason": gap.reason.value,
        "time": now_ms,
    }


def _reading_record(reading: Reading, group: str, now_ms: int) -> ReadingRecord:
    return {
        "kind": "reading",
        "group": group,
        "topic": reading.topic,
        "topic_id": str(reading.life),
        "partition": reading.partition,
        "time": now_ms,
    }


def _sentence(gap: Gap) -> str:
    where = f"{gap.topic}/{gap.partition}"
    match gap.reason:
        case GapReason.RETENTION:
            count = (gap.end or 0) - (gap.start or 0)
            return (
                f"{where}: {count} offsets from {gap.start} to {gap.end} were deleted before they were read; "
                "going on behind them"
            )
        case GapReason.REMADE:
            return (
                f"{where}: the topic was deleted and made again; reading the new one from its beginning, "
                "what the old one held unread is lost"
            )
        case GapReason.TRUNCATED:
            return (
                f"{where}: the log ends at {gap.start}, below the commit {gap.end}: the broker lost records; "
                "reading everything that is there again"
            )
