"""Whether a worker still works: records wait, nobody meant to wait, and nothing happens for a set time.

Invariants:
  silent_seconds = 0 at a sighting where nothing waits, a pause is meant, or progress was made since the last
  dead implies that each sighting of the last `seconds_max` observed seconds found records waiting, no pause
  and no progress
  time in which nobody looked (a stopped process, a suspended machine) counts as GAP_SECONDS_MAX at most

Progress is a batch settled, a commit, an attempt to deliver, or records brought to a worker that had none
in hand. A poll that brings nothing is no progress while records wait: who asks and never gets is stuck.
Pure: the clock is given.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["GAP_SECONDS_MAX", "Liveness", "Sighting", "Tail", "Verdict", "what_waits"]

GAP_SECONDS_MAX: Final = 5.0
"""The most that the time between two sightings counts."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Sighting:
    """The worker at one moment: `progress` only ever grows; `waiting` and `pause` are words, or None."""

    progress: int
    waiting: str | None
    pause: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is a clause to be shown to a person, whatever the verdict."""

    alive: bool
    why: str
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Tail(Generic[P]):
    """What lay behind the group's commit in one partition, seen from outside; `end` is the readable end."""

    partition: P
    records: int
    end: int


def what_waits(
    rows_in_hand: int, positions: Mapping[P, int | None] | None, tails: Collection[Tail[P]]
) -> str | None:
    """What waits for this worker, in words.

    `positions` says where reading stands in each partition of this worker, None where that is not known; it
    is itself None while the worker is in no group: then whatever the group has not read waits for it too.
    Nothing waits behind a position at the end, whether or not it is committed. Trailing markers are in no
    tail: a lag of records counts none where nothing can be read.
    """
    if rows_in_hand:
        return f"{rows_in_hand} records in hand"
    unread = sum(
        tail.records
        for tail in tails
        if positions is None or (tail.partition in positions and _is_before(positions[tail.partition], tail))
    )
    if not unread:
        return None
    return f"{unread} records unread" + (" and no place in the group" if positions is None else "")


def _is_before(position: int | None, tail: Tail[P]) -> bool:
    return tail.records > 0 and (position is None or position < tail.end)


class Liveness:
    """Told what is seen of the worker, at least every GAP_SECONDS_MAX, it says whether the worker lives."""

    def __init__(self, seconds_max: float, *, clock: Callable[[], float]) -> None:
        self._seconds_max = seconds_max
        self._clock = clock
        self._seen_at = clock()
        self._progress = 0
        self._silent_seconds: float | None = None

    def see(self, sighting: Sighting) -> Verdict:
        """The verdict after this sighting."""
        now = self._clock()
        passed = min(now - self._seen_at, GAP_SECONDS_MAX)
        self._seen_at = now
        moved, self._progress = sighting.progress != self._progress, sighting.progress
        if sighting.waiting is None or sighting.pause is not None or moved:
            self._silent_seconds = None
            return Verdict(True, sighting.pause or ("at work" if sighting.waiting else "nothing waits"), 0.0)
        # What passed before the first silent sighting may still have been work.
        self._silent_seconds = 0.0 if self._silent_seconds is None else self._silent_seconds + passed
        why = f"{sighting.waiting}, and nothing was read, settled, tried or committed"
        why += f" for {self._silent_seconds:.0f} s"
        return Verdict(self._silent_seconds < self._seconds_max, why, self._silent_seconds)
