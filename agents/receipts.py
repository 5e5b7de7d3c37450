"""Counts the receipt from the topics, by distinct source position and anomaly id, never from counters.

What makes a sum fail: an event below the scorer's commit without an outcome; an event both scored and set
aside; an anomaly below the bridge's commit without an outcome. A scored anomaly that is not in the store
leaves both sums as they are; `store_is_complete` tells it. Not told yet: events that retention took before
they were read, once the scorer's commit has passed them.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ..schemas.receipt import Receipt
from ..schemas.records import Outcome
from ..streams.scoring.codec import decode
from .admin import connect_admin
from .errors import BrokerAbsentError
from .settings import Settings
from .topic_reader import TopicReader, open_reader

__all__ = ["SiteCount", "count_site"]

Position = tuple[int, int]

COORDINATOR_SECONDS_MAX: Final = 20.0
_RETRY_SECONDS: Final = 0.2


@dataclass(slots=True)
class SiteCount:
    """What was found in the topics. Positions are (partition, offset) of the events topic."""

    events: set[Position] = field(default_factory=set)
    scored: set[Position] = field(default_factory=set)
    scored_records: int = 0
    scored_anomalies: set[Position] = field(default_factory=set)
    dead_letters: dict[Position, str] = field(default_factory=dict)
    anomalies: dict[str, Position] = field(default_factory=dict)
    anomaly_sources: dict[str, Position] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    events_committed: Mapping[int, int] = field(default_factory=dict)
    events_log_start: Mapping[int, int] = field(default_factory=dict)
    anomalies_committed: Mapping[int, int] = field(default_factory=dict)

    def receipt(self) -> Receipt:
        """The counts; `adds_up` says whether they agree."""
        settled = self.scored | self.dead_letters.keys()
        unread = sum(
            offset >= self.events_committed.get(partition, 0) for partition, offset in self.events - settled
        )
        lost = sum(
            max(0, start - self.events_committed[partition])
            for partition, start in self.events_log_start.items()
            if partition in self.events_committed
        )
        # What a quota took has a tombstone in the store; its outcome is all that is left of it.
        dropped = {name for name, outcome in self.outcomes.items() if outcome is Outcome.DROPPED_BY_QUOTA}
        outcomes = [self.outcomes.get(identity) for identity in self.anomalies.keys() | dropped]
        waiting = sum(
            identity not in self.outcomes and offset >= self.anomalies_committed.get(partition, 0)
            for identity, (partition, offset) in self.anomalies.items()
        )
        return Receipt(
            events=len(self.events | settled) + lost,
            scored=len(self.scored),
            dead_letters=len(self.dead_letters),
            unread=unread,
            lost_to_retention=lost,
            anomalies=len(outcomes),
            acknowledged=outcomes.count(Outcome.ACKNOWLEDGED),
            waiting=waiting,
            held_back=outcomes.count(Outcome.HELD_BACK),
            set_aside=outcomes.count(Outcome.SET_ASIDE),
            dropped_by_quota=outcomes.count(Outcome.DROPPED_BY_QUOTA),
        )

    @property
    def store_is_complete(self) -> bool:
        """Whether the store has every anomaly that was scored, and no other."""
        return set(self.anomaly_sources.values()) == self.scored_anomalies


async def count_site(settings: Settings) -> SiteCount:
    """Read every topic of the site once; commits first, so that what they cover is already written."""
    names = settings.topics
    count = SiteCount()
    async with connect_admin(settings.kafka_bootstrap) as admin:
        count.events_committed = await _committed(admin, settings.scorer_group, names.events)
        count.anomalies_committed = await _committed(admin, settings.bridge_group, names.anomalies)
    async with open_reader(settings.kafka_bootstrap) as reader:
        await _count_events(reader, names.events, count)
        await _count_scored(reader, names.scored, count)
        async for records in reader.records(names.dead_letters):
            for record in records:
                _count_dead_letter(record, count)
        await _count_anomalies(reader, names.anomalies, count)
        await _count_deliveries(reader, names.deliveries, count)
    return count


async def _committed(admin: AIOKafkaAdminClient, group: str, topic: str) -> dict[int, int]:
    """The group's commits; waits for its coordinator, which the first group of a broker has to make."""
    deadline = monotonic() + COORDINATOR_SECONDS_MAX
    while True:
        try:
            answer: Mapping[TopicPartition, object] = await admin.list_consumer_group_offsets(group)
        except KafkaError as error:
            if not error.retriable or monotonic() > deadline:
                raise BrokerAbsentError(f"the commits of group {group!r} cannot be read: {error}") from None
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            break
    return {
        part.partition: int(getattr(committed, "offset", -1))
        for part, committed in answer.items()
        if part.topic == topic and getattr(committed, "offset", -1) >= 0
    }


async def _count_events(reader: TopicReader, topic: str, count: SiteCount) -> None:
    count.events_log_start = {number: start for number, (start, _) in (await reader.bounds(topic)).items()}
    async for records in reader.records(topic):
        count.events.update((record.partition, record.offset) for record in records)


async def _count_scored(reader: TopicReader, topic: str, count: SiteCount) -> None:
    async for records in reader.records(topic):
        for record in records:
            value = decode(record.value)
            assert isinstance(value, dict)
            position = (value["source"]["partition"], value["source"]["offset"])
            count.scored_records += 1
            count.scored.add(position)
            if value["anomaly"]:
                count.scored_anomalies.add(position)


def _count_dead_letter(record: ConsumerRecord, count: SiteCount) -> None:
    headers = dict(record.headers)
    position = (int(headers["partition"]), int(headers["offset"]))
    count.dead_letters[position] = headers["reason"].decode()


async def _count_anomalies(reader: TopicReader, topic: str, count: SiteCount) -> None:
    async for records in reader.records(topic):
        for record in records:
            identity = record.key.decode()
            if record.value is None:
                # A tombstone: the anomaly has left the store, whatever of it is not compacted yet.
                count.anomalies.pop(identity, None)
                count.anomaly_sources.pop(identity, None)
                continue
            value = decode(record.value)
            assert isinstance(value, dict)
            count.anomalies[identity] = (record.partition, record.offset)
            count.anomaly_sources[identity] = (value["source"]["partition"], value["source"]["offset"])


async def _count_deliveries(reader: TopicReader, topic: str, count: SiteCount) -> None:
    async for records in reader.records(topic):
        for record in records:
            identity = record.key.decode()
            if record.value is None:
                # Retired: its anomaly has a tombstone as well, perhaps written after `anomalies` was read.
                count.outcomes.pop(identity, None)
                count.anomalies.pop(identity, None)
                count.anomaly_sources.pop(identity, None)
                continue
            value = decode(record.value)
            assert isinstance(value, dict)
            count.outcomes[identity] = Outcome(value["outcome"])
