"""What became of every event, told by the topics alone, and which promise that breaks.

Keeps three bytes and one checksum an event for ever, and more only of what is not judged yet, so that an
hour's events fit into memory. Positions are (partition, offset) of the events topic.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

__all__ = ["Counts", "Event", "Fence", "Guarantee", "Kind", "Ledger"]

Position = tuple[int, int]
EXAMPLES_MAX = 3


class Guarantee(StrEnum):
    """What the scorer under test promises."""

    AT_LEAST_ONCE = "at-least-once"
    EXACTLY_ONCE = "exactly-once"


class Kind(Enum):
    """What must become of an event."""

    NORMAL = "scored"
    ANOMALOUS = "scored, as an anomaly"
    HOSTILE = "a dead letter"
    ANY = "scored or a dead letter"


@dataclass(frozen=True, slots=True)
class Event:
    """What the events topic holds; the mark is the device and time, or a checksum of the bytes."""

    kind: Kind
    mark: object


@dataclass(frozen=True, slots=True)
class Fence:
    """The scorers' commits, read before the ends of `scored` and `dead-letters`: nothing that is committed
    may be written again behind those ends, whatever fault is to come."""

    committed: Mapping[int, int]
    scored_ends: Mapping[int, int]
    dead_letter_ends: Mapping[int, int]


@dataclass(slots=True)
class _Partition:
    read: bytearray = field(default_factory=bytearray)
    scored: bytearray = field(default_factory=bytearray)
    dead: bytearray = field(default_factory=bytearray)
    checksums: array[int] = field(default_factory=lambda: array("Q"))

    def reach(self, offset: int) -> None:
        missing = offset + 1 - len(self.scored)
        if missing > 0:
            missing += 4_096
            self.read.extend(bytes(missing))
            self.scored.extend(bytes(missing))
            self.dead.extend(bytes(missing))
            self.checksums.extend(bytes(missing))


@dataclass(slots=True)
class Counts:
    """Distinct events and anomalies, and records beyond one for each."""

    events: int = 0
    hostile: int = 0
    scored: int = 0
    dead_letters: int = 0
    anomalies: int = 0
    scored_again: int = 0
    dead_letters_again: int = 0
    anomalies_again: int = 0
    committed_again: int = 0

    @property
    def repeats(self) -> int:
        """Records beyond one for each event and anomaly."""
        return self.scored_again + self.dead_letters_again + self.anomalies_again


class Ledger:
    """Fed from the topics in their order; `judge` gives a sentence for each broken promise."""

    def __init__(self, guarantee: Guarantee) -> None:
        self.counts = Counts()
        self.guarantee = guarantee
        self._partitions: dict[int, _Partition] = {}
        self._events: dict[Position, Event] = {}
        self._marks: dict[Position, object] = {}
        self._letters: dict[Position, object] = {}
        self._flagged: set[Position] = set()
        self._judged: dict[int, int] = {}
        self._key_of: dict[Position, bytes] = {}
        self._source_of: dict[bytes, Position] = {}
        self._fence = Fence({}, {}, {})
        self._broken: list[str] = []
        self._told_repeats = 0

    def fence(self, fence: Fence) -> None:
        """What is committed from here on is not to be repeated."""
        self._fence = fence

    def event(self, position: Position, event: Event) -> None:
        """A record of the events topic."""
        self.counts.events += 1
        self.counts.hostile += event.kind in (Kind.HOSTILE, Kind.ANY)
        self._events[position] = event
        self._part(position).read[position[1]] = 1

    def scored(self, position: Position, at: int, *, mark: object, anomaly: bool, checksum: int) -> None:
        """A record of `scored` at its offset `at`, from the event at `position`."""
        offset, part = position[1], self._part(position)
        if part.scored[offset]:
            self.counts.scored_again += 1
            self._repeated(position, at, self._fence.scored_ends)
            if part.checksums[offset] != checksum:
                self._broken.append(f"event {position} was scored twice and differently")
            return
        part.scored[offset] = 1
        part.checksums[offset] = checksum
        self.counts.scored += 1
        self._marks[position] = mark
        if anomaly:
            self._flagged.add(position)

    def dead_letter(self, position: Position, at: int, mark: object) -> None:
        """A record of `dead-letters` at its offset `at`."""
        offset, part = position[1], self._part(position)
        if part.dead[offset]:
            self.counts.dead_letters_again += 1
            self._repeated(position, at, self._fence.dead_letter_ends)
            return
        part.dead[offset] = 1
        self.counts.dead_letters += 1
        self._letters[position] = mark

    def stored(self, key: bytes, position: Position) -> None:
        """A record of the store."""
        if key in self._source_of:
            self.counts.anomalies_again += 1
            return
        self._source_of[key] = position
        if position in self._key_of:
            self._broken.append(f"the anomaly of event {position} has two keys")
            return
        self._key_of[position] = key
        self.counts.anomalies += 1

    def judge(self, ends: Mapping[int, int], acknowledged: Iterable[Position] = ()) -> list[str]:
        """Judge the events below `ends`, which the scorers have committed, and those acknowledged to their
        producer; every event is judged once."""
        broken, self._broken = self._broken, []
        lost = [position for position in acknowledged if not self._part(position).read[position[1]]]
        broken += _told(lost, "acknowledged to their producer but not in the events topic")
        due = {position: event for position, event in self._events.items() if position[1] < ends[position[0]]}
        broken += _told([p for p in due if not self._has_outcome(p)], "without any outcome")
        broken += _told([p for p in due if self._is_both(p)], "both scored and a dead letter")
        for kind in Kind:
            wrong = [p for p, event in due.items() if event.kind is kind and self._is_wrong(p, kind)]
            broken += _told(wrong, f"that should be {kind.value} and are not")
        broken += _told([p for p, event in due.items() if self._is_altered(p, event)], "told of wrongly")
        flagged = {position for position in self._flagged if position in due}
        broken += _told([p for p in flagged if p not in self._key_of], "anomalous but not in the store")
        broken += _told(
            [p for p in due if p in self._key_of and p not in flagged],
            "in the store but not scored as anomalies",
        )
        for position in due:
            del self._events[position]
            self._marks.pop(position, None)
            self._letters.pop(position, None)
        self._flagged -= flagged
        return broken + self._broken_by_repeats()

    def _broken_by_repeats(self) -> list[str]:
        """What is new of them since they were told last."""
        if self.guarantee is Guarantee.EXACTLY_ONCE:
            repeats, what = self.counts.repeats, "records repeated for committed readers"
        else:
            repeats, what = self.counts.committed_again, "records repeated of events that were committed"
        new, self._told_repeats = repeats - self._told_repeats, repeats
        return [f"{new} {what}"] if new else []

    def _repeated(self, position: Position, at: int, ends: Mapping[int, int]) -> None:
        partition, offset = position
        fence = self._fence.committed.get(partition, 0)
        if offset < fence and at >= ends.get(partition, 0):
            self.counts.committed_again += 1

    def _part(self, position: Position) -> _Partition:
        part = self._partitions.setdefault(position[0], _Partition())
        part.reach(position[1])
        return part

    def _has_outcome(self, position: Position) -> bool:
        part = self._partitions[position[0]]
        return bool(part.scored[position[1]] or part.dead[position[1]])

    def _is_both(self, position: Position) -> bool:
        part = self._partitions[position[0]]
        return bool(part.scored[position[1]] and part.dead[position[1]])

    def _is_wrong(self, position: Position, kind: Kind) -> bool:
        scored = self._partitions[position[0]].scored[position[1]]
        if not self._has_outcome(position) or kind is Kind.ANY:
            return False
        if kind is Kind.HOSTILE:
            return bool(scored)
        return not scored or (kind is Kind.ANOMALOUS and position not in self._flagged)

    def _is_altered(self, position: Position, event: Event) -> bool:
        if event.kind in (Kind.NORMAL, Kind.ANOMALOUS):
            return position in self._marks and self._marks[position] != event.mark
        return position in self._letters and self._letters[position] != event.mark


def _told(positions: list[Position], what: str) -> list[str]:
    if not positions:
        return []
    examples = ", ".join(f"{partition}/{offset}" for partition, offset in sorted(positions)[:EXAMPLES_MAX])
    return [f"{len(positions)} events {what} (partition/offset {examples})"]
