"""What was found in a site's topics, and the sums that follow: the arithmetic of the receipt.

A position is (partition, offset) of the events topic that is there now. Of a topic that was deleted and made
again, outcomes of the one before it are counted apart, or two events would be taken for one.

lost = what lies in a gap told on `audit`, or between commit (or 0) and the log's start, and has no outcome
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..schemas.receipt import Receipt
from ..schemas.records import Outcome

__all__ = ["Position", "SiteCount", "merge"]

Position = tuple[int, int]

_FOREIGN_NAMED: Final = (
    "records of {topic!r} that are none of farshore's are left out: {count}, first {first}"
)


@dataclass(slots=True)
class SiteCount:
    """Outcomes by position. `lost` are offsets [from, to) by partition, as `audit` tells of this topic.

    `earlier` holds the outcomes of events topics before this one, by their number, partition and offset, and
    `earlier_lost` counts what was lost there.
    """

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
    lost: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    earlier_scored: set[tuple[int, int, int]] = field(default_factory=set)
    earlier_dead_letters: set[tuple[int, int, int]] = field(default_factory=set)
    earlier_lost: int = 0
    foreign: dict[str, tuple[int, str]] = field(default_factory=dict)

    def receipt(self) -> Receipt:
        """The counts; `adds_up` says whether they agree."""
        settled = self.scored | self.dead_letters.keys()
        unread = sum(
            offset >= self.events_committed.get(partition, 0) for partition, offset in self.events - settled
        )
        lost = self._lost_here(settled) + self.earlier_lost
        earlier = len(self.earlier_scored | self.earlier_dead_letters)
        # What a quota took has a tombstone in the store; its outcome is all that is left of it.
        dropped = {name for name, outcome in self.outcomes.items() if outcome is Outcome.DROPPED_BY_QUOTA}
        outcomes = [self.outcomes.get(identity) for identity in self.anomalies.keys() | dropped]
        waiting = sum(
            identity not in self.outcomes and offset >= self.anomalies_committed.get(partition, 0)
            for identity, (partition, offset) in self.anomalies.items()
        )
        return Receipt(
            events=len(self.events | settled) + lost + earlier,
            scored=len(self.scored) + len(self.earlier_scored),
            dead_letters=len(self.dead_letters) + len(self.earlier_dead_letters),
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

    def note_foreign(self, topic: str, where: str) -> None:
        """A record that the topic's writer did not write: it is in no sum."""
        count, first = self.foreign.get(topic, (0, where))
        self.foreign[topic] = (count + 1, first)

    @property
    def remarks(self) -> list[str]:
        """What a reader of the receipt has to know beside its sums."""
        return [
            _FOREIGN_NAMED.format(count=count, topic=topic, first=first)
            for topic, (count, first) in self.foreign.items()
        ]

    def _lost_here(self, settled: set[Position]) -> int:
        ranges = {partition: list(found) for partition, found in self.lost.items()}
        for partition, start in self.events_log_start.items():
            # What retention took and nobody has told yet: the scorer is away, or is just about to.
            ranges.setdefault(partition, []).append((self.events_committed.get(partition, 0), start))
        merged = {partition: found for partition, all_ in ranges.items() if (found := merge(all_))}
        if not merged:
            return 0
        inside = sum(
            any(start <= offset < end for start, end in merged.get(partition, ()))
            for partition, offset in settled | self.events
        )
        return sum(end - start for found in merged.values() for start, end in found) - inside


def merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of ranges [start, end), in order and apart from each other."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found for found in ranges if found[0] < found[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
