"""Where reading begins in a partition, and what was lost on the way there: decisions without input or output.

Kafka offers an automatic reset: a consumer whose position is gone jumps and tells nobody. Here it is off.
Whatever has no position gets one from `start_reading`, which names each gap that it leaves.

Invariants:
  log.start <= position
  position = where reading stood, or a gap says why not
  reading goes on behind a gap; it never stops before one
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ...schemas.reasons import GapReason

__all__ = [
    "Gap",
    "LogBounds",
    "Reading",
    "ReadingStart",
    "ReadingWatch",
    "Stand",
    "parse_life",
    "start_reading",
    "write_life",
]

_LIFE: Final = "topic-id="


@dataclass(frozen=True, slots=True)
class Stand:
    """Where reading stood: `offset` is the next one to read, None when nothing was ever read.

    `life` is the id of the topic that was read then, None when it is not known.
    """

    offset: int | None
    life: UUID | None

    def or_life(self, life: UUID | None) -> "Stand":
        """The same, with this life where none is known."""
        return self if self.life is not None else Stand(self.offset, life)


@dataclass(frozen=True, slots=True)
class LogBounds:
    """A partition now: its first offset, the next to be written, its topic's id where the broker has one."""

    start: int
    end: int
    life: UUID | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets [start, end) of a topic's life that will not be read; None where that cannot be known."""

    topic: str
    partition: int
    start: int | None
    end: int | None
    reason: GapReason
    life: UUID | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A group begins to read a partition of one life of a topic."""

    topic: str
    partition: int
    life: UUID


@dataclass(frozen=True, slots=True)
class ReadingStart:
    """Where to begin, what is left out by that, and whether a life of the topic begins for this group."""

    position: int
    gaps: tuple[Gap, ...]
    reading: Reading | None


class ReadingWatch(Protocol):
    """What the transport asks of its application before it reads; each call takes as long as it needs."""

    async def before_reading(self, partition_counts: Mapping[str, int]) -> None:
        """Returns when results of partitions below these numbers, by topic, can be written."""

    async def known_lives(self, partitions: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], UUID]:
        """Which life of each (topic, partition) this group read last, from what outlives the topics."""

    async def note(self, gaps: Sequence[Gap], readings: Sequence[Reading]) -> None:
        """Tell of gaps and of lives that begin; returns when acknowledged: no commit passes a gap unseen."""


def start_reading(place: tuple[str, int], stood: Stand, log: LogBounds) -> ReadingStart:
    """Where to read on in the log of a (topic, partition), for a group that stood there.

    A topic made anew is read from its first record; so is a log that ends before the commit, because what
    stands below its end may have been written since.
    """
    topic, partition = place
    gaps: list[Gap] = []
    offset = stood.offset
    if stood.life is not None and log.life is not None and stood.life != log.life:
        gaps.append(Gap(topic, partition, offset, None, GapReason.REMADE, stood.life))
        offset = None
    elif offset is not None and offset > log.end:
        gaps.append(Gap(topic, partition, log.end, offset, GapReason.TRUNCATED, log.life))
        offset = log.start
    first = offset or 0
    if first < log.start:
        gaps.append(Gap(topic, partition, first, log.start, GapReason.RETENTION, log.life))
    begins = log.life if log.life != stood.life else None
    reading = Reading(topic, partition, begins) if begins is not None else None
    return ReadingStart(max(first, log.start), tuple(gaps), reading)


def write_life(life: UUID | None) -> str:
    """A topic's id as the metadata of a commit."""
    return "" if life is None else f"{_LIFE}{life}"


def parse_life(metadata: str) -> UUID | None:
    """The topic's id in the metadata of a commit; None in one that anybody else has made."""
    if not metadata.startswith(_LIFE):
        return None
    try:
        return UUID(metadata.removeprefix(_LIFE))
    except ValueError:
        return None
