"""Counts the receipt from the topics, by distinct source position and anomaly id, never from counters.

What makes a sum fail: an event below the scorer's commit without an outcome; an event both scored and set
aside; an anomaly below the bridge's commit without an outcome. A scored anomaly that is not in the store
leaves both sums as they are; `store_is_complete` tells it. Events that retention took before they were read
are lost by what `audit` tells and by what it will tell, so the sum holds before, during and after.

Of a topic that was deleted and made again the outcomes before and after are told apart by the time at which
`audit` says that the new one began; what the old one still held unread is in no count.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final
from uuid import UUID

from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ..schemas.reasons import GapReason
from ..schemas.records import Outcome
from ..streams.scoring.codec import decode
from ..streams.transport.positions import parse_life
from .admin import connect_admin, topic_ids
from .audit import audit_records
from .errors import BrokerAbsentError, first_line
from .settings import Settings
from .site_count import Position, SiteCount, merge
from .topic_reader import TopicReader, open_reader

__all__ = ["SiteCount", "count_site"]

log = logging.getLogger(__name__)

COORDINATOR_SECONDS_MAX: Final = 20.0
_RETRY_SECONDS: Final = 0.2


async def count_site(settings: Settings) -> SiteCount:
    """Read every topic of the site once; commits first, so that what they cover is already written.

    Records that farshore did not write are left out and named in a warning; raises BrokerAbsentError.
    """
    names = settings.topics
    count = SiteCount()
    async with connect_admin(settings.kafka_bootstrap) as admin:
        lives = _Lives((await topic_ids(admin, [names.events])).get(names.events))
        count.events_committed = await _committed(admin, settings.scorer_group, names.events, lives.current)
        count.anomalies_committed = await _committed(admin, settings.bridge_group, names.anomalies, None)
    async with open_reader(settings.kafka_bootstrap) as reader:
        await _read_gaps(reader, settings, count, lives)
        await _count_events(reader, names.events, count)
        source = partial(_source, names.events, lives)
        for topic, take in (
            (names.scored, partial(_take_scored, count, source)),
            (names.dead_letters, partial(_take_dead_letter, count, source)),
            (names.anomalies, partial(_take_anomaly, count, source)),
            (names.deliveries, partial(_take_delivery, count)),
        ):
            async for records in reader.records(topic):
                for record in records:
                    try:
                        take(record)
                    except _UNREADABLE as error:
                        where = f"{topic}/{record.partition} offset {record.offset}"
                        count.note_foreign(topic, f"{where} ({type(error).__name__}: {first_line(error)})")
    for remark in count.remarks:
        log.warning("%s", remark)
    return count


# What decoding bytes that anybody may have written can meet: no JSON, no such member, another type.
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(slots=True)
class _Lives:
    """Topics of the events' name, one after the other: the id of the present one, when others ended."""

    current: UUID | None
    ended_ms: dict[int, dict[str | None, int]] = field(default_factory=dict)

    def number(self, partition: int, timestamp_ms: int) -> int:
        """How many topics have begun since the one that a record of this time tells of; 0: it is there."""
        return sum(timestamp_ms < end for end in self.ended_ms.get(partition, {}).values())


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the event of a record stood; `life` is 0 for the topic that is there now."""

    position: Position
    life: int


def _source(events: str, lives: _Lives, record: ConsumerRecord, source: Mapping[str, Any]) -> _Source | None:
    """None for an event of a topic that is none of this site's: its events are not counted either."""
    partition, offset = int(source["partition"]), int(source["offset"])
    if source["topic"] != events:
        return None
    return _Source((partition, offset), lives.number(partition, record.timestamp))


async def _committed(admin: AIOKafkaAdminClient, group: str, topic: str, life: UUID | None) -> dict[int, int]:
    """The group's commits in this life of the topic.

    Waits for the group's coordinator, which the first group of a broker has to make.
    """
    deadline = monotonic() + COORDINATOR_SECONDS_MAX
    while True:
        try:
            answer = await admin.list_consumer_group_offsets(group)
        except KafkaError as error:
            if not error.retriable or monotonic() > deadline:
                raise BrokerAbsentError(f"the commits of group {group!r} cannot be read: {error}") from None
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            break
    return {
        part.partition: committed.offset
        for part, committed in answer.items()
        if part.topic == topic
        and committed.offset >= 0
        and (life is None or parse_life(committed.metadata) in (None, life))
    }


async def _read_gaps(reader: TopicReader, settings: Settings, count: SiteCount, lives: _Lives) -> None:
    current = None if lives.current is None else str(lives.current)
    earlier: dict[tuple[int, str | None], list[tuple[int, int]]] = {}
    async for records in reader.records(settings.topic_audit):
        for gap in audit_records(record.value for record in records):
            if gap["kind"] != "gap" or (gap["group"], gap["topic"]) != (
                settings.scorer_group,
                settings.topic_events,
            ):
                continue
            partition, life = gap["partition"], gap["topic_id"]
            start, end = gap["from"], gap["to"]
            if gap["reason"] == GapReason.REMADE:
                ended = lives.ended_ms.setdefault(partition, {})
                ended[life] = min(gap["time"], ended.get(life, gap["time"]))
            elif gap["reason"] == GapReason.RETENTION and start is not None and end is not None:
                if life is None or current is None or life == current:
                    count.lost.setdefault(partition, []).append((start, end))
                else:
                    earlier.setdefault((partition, life), []).append((start, end))
    count.earlier_lost = sum(end - start for found in earlier.values() for start, end in merge(found))


async def _count_events(reader: TopicReader, topic: str, count: SiteCount) -> None:
    bounds = await reader.bounds(topic)
    count.events_log_start = {number: start for number, (start, _) in bounds.items()}
    # A commit behind the end is of a log that lost its end, or of a topic that is gone: it covers nothing.
    count.events_committed = {
        number: offset for number, offset in count.events_committed.items() if offset <= bounds[number][1]
    }
    async for records in reader.records(topic):
        count.events.update((record.partition, record.offset) for record in records)


_FindSource = Callable[[ConsumerRecord, Mapping[str, Any]], _Source | None]  # JSON of any shape


def _take_scored(count: SiteCount, find: _FindSource, record: ConsumerRecord) -> None:
    value = _object(record)
    anomaly, source = value["anomaly"], find(record, value["source"])
    if source is None:
        return
    count.scored_records += 1
    if source.life:
        count.earlier_scored.add((source.life, *source.position))
        return
    count.scored.add(source.position)
    if anomaly:
        count.scored_anomalies.add(source.position)


def _take_dead_letter(count: SiteCount, find: _FindSource, record: ConsumerRecord) -> None:
    headers = dict(record.headers)
    reason = headers["reason"].decode()
    source = find(record, headers | {"topic": headers["topic"].decode()})
    if source is None:
        return
    if source.life:
        count.earlier_dead_letters.add((source.life, *source.position))
    else:
        count.dead_letters[source.position] = reason


def _take_anomaly(count: SiteCount, find: _FindSource, record: ConsumerRecord) -> None:
    identity = record.key.decode()
    if record.value is None:
        # A tombstone: the anomaly has left the store, whatever of it is not compacted yet.
        count.anomalies.pop(identity, None)
        count.anomaly_sources.pop(identity, None)
        return
    source = find(record, _object(record)["source"])
    count.anomalies[identity] = (record.partition, record.offset)
    if source is not None and not source.life:
        count.anomaly_sources[identity] = source.position


def _take_delivery(count: SiteCount, record: ConsumerRecord) -> None:
    identity = record.key.decode()
    if record.value is None:
        # Retired: its anomaly has a tombstone as well, perhaps written after `anomalies` was read.
        count.outcomes.pop(identity, None)
        count.anomalies.pop(identity, None)
        count.anomaly_sources.pop(identity, None)
        return
    count.outcomes[identity] = Outcome(_object(record)["outcome"])


def _object(record: ConsumerRecord) -> dict[str, Any]:
    value = decode(record.value)
    if not isinstance(value, dict):
        raise TypeError("no JSON object")
    return value
