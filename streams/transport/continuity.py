"""Gives a position to every partition that has none: after an assignment, a rewind, a fetch out of range.

aiokafka's fetcher would take the commit as it is, or jump. Here, in order:
  1. the application makes sure that results of these partitions can be written
  2. the group's commits are read, with the topic's id that each of them carries
  3. the log's start and end and the topic's id are read
  4. `start_reading` decides; its gaps are told, and the telling is acknowledged
  5. the position is set, `rewind_offsets` before that or at the log's start: what lies between is read once
     more, for memory's sake, and is below `live_from`
Guarantees: no commit passes a gap before it is told; a topic made anew is noticed also when it has grown past
the old commit, at an assignment by the commit's metadata or the application's memory, in mid-reading within
the metadata's age. An absent broker only delays.
Limit: at a broker without topic ids (before 2.8) a topic made anew is noticed only while it is shorter than
the commit; so is, at any broker, a log that lost its end and grew again.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from .positions import (
    Gap,
    LogBounds,
    Reading,
    ReadingStart,
    ReadingWatch,
    Stand,
    parse_life,
    start_reading,
    write_life,
)
from .topic_ids import fetch_topic_ids

__all__ = ["Continuity"]

_RETRY_SECONDS: Final = 0.2
_EARLIEST: Final = -2
_LATEST: Final = -1
# The end of the log, not of its last finished transaction: a commit may lie between the two.
_READ_UNCOMMITTED: Final = 0
_REFUSED: Final = ("TopicAuthorizationFailedError", "GroupAuthorizationFailedError")


class Continuity:
    """What one consumer knows of where it stands; made anew with each client."""

    def __init__(self, consumer: AIOKafkaConsumer, watch: ReadingWatch, *, rewind_offsets: int = 0) -> None:
        self._consumer = consumer
        self._watch = watch
        self._rewind_offsets = rewind_offsets
        self._live_from: dict[tuple[str, int], int] = {}
        self._reached: dict[tuple[str, int], int] = {}
        self._assignment: Assignment | None = None
        self._rewinds = 0
        self._noted: set[Gap | Reading] = set()
        self._lives: dict[TopicPartition, UUID | None] = {}
        self._failure: BaseException | None = None
        # The one place where the fetcher settles what has no position.
        consumer._fetcher._update_fetch_positions = self._update

    def reach(self, positions: Mapping[TP, int]) -> None:
        """Reading stands here: everything below was handed out since the last rewind."""
        self._reached.update(positions)

    def live_from(self, partition: tuple[str, int]) -> int:
        """The offset below which a partition is only read again; 0 where nothing is."""
        return self._live_from.get(partition, 0)

    def forget(self) -> None:
        """Everything is read on from the commits; a position that is just being looked for is not set."""
        self._reached.clear()
        self._rewinds += 1

    def commit(self, offsets: Mapping[TP, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Commits that name the topic's id, so that none is ever taken for one of another topic."""
        return {
            TopicPartition(*tp): OffsetAndMetadata(offset, write_life(self._lives.get(TopicPartition(*tp))))
            for tp, offset in offsets.items()
        }

    def raise_failure(self) -> None:
        """Raise what no retry mends."""
        if self._failure is not None:
            raise self._failure

    async def remade(self) -> bool:
        """Whether a topic that is being read is another one by now; raises KafkaError."""
        read = {tp: life for tp, life in self._lives.items() if tp in self._consumer.assignment()}
        ids = await fetch_topic_ids(self._consumer._client, {tp.topic for tp in read})
        return any(life is not None and ids.get(tp.topic, life) != life for tp, life in read.items())

    async def _update(self, assignment: Assignment, node_id: int, tps: list[TopicPartition]) -> bool:
        """In place of Fetcher._update_fetch_positions; False: nobody needs to be woken."""
        try:
            await self._give_positions(assignment, node_id, tps)
        except asyncio.CancelledError:
            pass  # as the fetcher has it: the assignment is gone
        except KafkaError as error:
            if type(error).__name__ in _REFUSED:
                self._failure = error
            self._consumer._client.force_metadata_update()
            await asyncio.sleep(_RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001  told by the group's watch, which ends the worker
            self._failure = error
            await asyncio.sleep(_RETRY_SECONDS)
        return False

    async def _give_positions(self, assignment: Assignment, node_id: int, tps: list[TopicPartition]) -> None:
        """The steps of the module's text."""
        waiting = [tp for tp in tps if not assignment.state_value(tp).has_valid_position]
        if not waiting:
            return
        if assignment is not self._assignment:
            self._reached.clear()
            self._assignment = assignment
        rewinds = self._rewinds
        await self._watch.before_reading(_partition_counts(waiting))  # Step 1
        commits = await asyncio.gather(*(assignment.state_value(tp).fetch_committed() for tp in waiting))
        stood = {tp: self._stood(tp, commit) for tp, commit in zip(waiting, commits, strict=True)}
        client = self._consumer._client
        # Step 3. The ids first: a topic made anew in between is then noticed by the next look at them.
        ids = await fetch_topic_ids(client, {tp.topic for tp in waiting})
        starts = await _offsets(client, node_id, waiting, _EARLIEST)
        ends = await _offsets(client, node_id, waiting, _LATEST)
        unknown = [tp for tp in waiting if stood[tp].life is None and tp.topic in ids]
        known = await self._watch.known_lives(unknown) if unknown else {}
        begun: dict[TopicPartition, ReadingStart] = {}
        for tp in waiting:  # Step 4
            log = LogBounds(starts[tp], max(starts[tp], ends[tp]), ids.get(tp.topic))
            begun[tp] = start_reading(tp, stood[tp].or_life(known.get(tp)), log)
        await self._note(begun.values())
        for tp, start in begun.items():  # Step 5
            state = assignment.state_value(tp)
            if assignment.active and rewinds == self._rewinds and not state.has_valid_position:
                self._lives[tp] = ids.get(tp.topic)
                self._reached.pop(tp, None)
                self._live_from[tp] = start.position
                state.reset_to(max(starts[tp], start.position - self._rewind_offsets))

    async def _note(self, begun: Collection[ReadingStart]) -> None:
        # Once: an assignment is followed by a rewind, and until the first commit it all looks the same again.
        gaps = [gap for start in begun for gap in start.gaps if gap not in self._noted]
        readings = [start.reading for start in begun if start.reading is not None]
        readings = [reading for reading in readings if reading not in self._noted]
        if gaps or readings:
            await self._watch.note(gaps, readings)
            self._noted.update(gaps, readings)

    def _stood(self, tp: TopicPartition, commit: OffsetAndMetadata) -> Stand:
        """Where the group stood by its commit, or, in mid-reading, by what was handed out and is in work.

        A commit without an id is another program's. None at all may mean that Kafka deleted it together
        with its topic.
        """
        if tp in self._reached:
            return Stand(max(commit.offset, self._reached[tp]), self._lives.get(tp))
        if commit.offset < 0:
            return Stand(None, None)
        return Stand(commit.offset, parse_life(commit.metadata))


def _partition_counts(partitions: Collection[TopicPartition]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tp in partitions:
        counts[tp.topic] = max(counts.get(tp.topic, 0), tp.partition + 1)
    return counts


async def _offsets(
    client: AIOKafkaClient, node_id: int, partitions: Collection[TopicPartition], which: int
) -> dict[TopicPartition, int]:
    """First or next offsets of partitions that this broker leads; raises KafkaError."""
    by_topic: dict[str, list[tuple[int, int]]] = {}
    for tp in partitions:
        by_topic.setdefault(tp.topic, []).append((tp.partition, which))
    answer = await client.send(node_id, OffsetRequest(-1, _READ_UNCOMMITTED, list(by_topic.items())))
    found = {}
    for topic, parts in answer.topics:
        for partition, code, _, offset in parts:
            if code:
                raise for_code(code)(topic)
            found[TopicPartition(topic, partition)] = offset
    return found
