"""What a month is here: 30 days in some minutes, its outages, and which anomaly is found when."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DAY", "OUTAGES", "Calendar"]

DAY = 86_400.0
DAYS = 30.0
OUTAGES = (60, 7_200, 2 * DAY, 600, DAY, 7 * DAY, 1_800, 4 * DAY, 3 * DAY, 14_400)
"""Simulated seconds, in their order; together 17.3 of the 30 days."""

BEGAN_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Calendar:
    """A month with so many anomalies in so many real seconds."""

    anomalies: int
    seconds: float

    def real(self, simulated_seconds: float) -> float:
        """Real seconds for simulated ones."""
        return simulated_seconds / (DAYS * DAY) * self.seconds

    @property
    def online_seconds(self) -> float:
        """Simulated: before the first outage, between two of them, after the last."""
        return (DAYS * DAY - sum(OUTAGES)) / (len(OUTAGES) + 1)

    def due(self, real_seconds: float) -> int:
        """How many anomalies have been found so long after the beginning."""
        return min(self.anomalies, int(real_seconds / self.seconds * self.anomalies))

    def found_ms(self, number: int) -> int:
        """The simulated moment at which an anomaly is found: every one has its own."""
        return BEGAN_MS + number * int(DAYS * DAY * 1_000 / self.anomalies)
