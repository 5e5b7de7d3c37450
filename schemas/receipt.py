"""The receipt: what became of every event and every anomaly, and whether the sums agree.

Invariants, each counted by distinct source position or anomaly id and read from the topics:
  events    = scored + dead letters + unread + lost to retention
  anomalies = acknowledged + waiting + held back + set aside + dropped by quota
"""

from dataclasses import asdict, dataclass

__all__ = ["Receipt"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Counts of distinct events and anomalies."""

    events: int
    scored: int
    dead_letters: int
    unread: int
    lost_to_retention: int
    anomalies: int
    acknowledged: int
    waiting: int
    held_back: int
    set_aside: int
    dropped_by_quota: int

    @property
    def events_add_up(self) -> bool:
        """Whether every event has an outcome."""
        return self.events == self.scored + self.dead_letters + self.unread + self.lost_to_retention

    @property
    def anomalies_add_up(self) -> bool:
        """Whether every anomaly has an outcome or waits."""
        return self.anomalies == (
            self.acknowledged + self.waiting + self.held_back + self.set_aside + self.dropped_by_quota
        )

    @property
    def adds_up(self) -> bool:
        """Both sums."""
        return self.events_add_up and self.anomalies_add_up

    def as_dict(self) -> dict[str, int]:
        """The counts by name, as `--json` prints them."""
        return asdict(self)
