"""The receipt of the store alone: what became of the anomalies found in a stretch of time.

Counted by distinct id from the topics, in bounded memory. What was delivered and has left the store after its
retention is not counted any more; `audit` has it.
"""

from collections import Counter
from dataclasses import asdict, dataclass

from ..schemas.records import Outcome
from .settings import Settings
from .store import WAITING, open_store
from .store_selection import StoreSelection

__all__ = ["StoreReceipt", "count_store"]


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """anomalies = acknowledged + waiting + held back + set aside + dropped by quota, or something is lost."""

    anomalies: int
    acknowledged: int
    waiting: int
    held_back: int
    set_aside: int
    dropped_by_quota: int

    @property
    def with_outcome(self) -> int:
        """The right side of the sum."""
        return self.acknowledged + self.waiting + self.held_back + self.set_aside + self.dropped_by_quota

    @property
    def adds_up(self) -> bool:
        """Whether every anomaly has an outcome or waits."""
        return self.anomalies == self.with_outcome

    def as_dict(self) -> dict[str, int]:
        """The counts by name, as `--json` prints them."""
        return asdict(self)


async def count_store(settings: Settings, selection: StoreSelection) -> StoreReceipt:
    """Count the selected anomalies by state. What the bridge has passed without an outcome fits no state."""
    states: Counter[str] = Counter()
    total = 0
    async with open_store(settings) as store:
        async for stored in store.anomalies(selection.takes):
            total += 1
            if stored.delivery is not None or not stored.passed:
                states[stored.state] += 1
        async for stored in store.dropped(selection.takes_dropped):
            total += 1
            states[stored.state] += 1
    return StoreReceipt(
        anomalies=total,
        acknowledged=states[Outcome.ACKNOWLEDGED],
        waiting=states[WAITING],
        held_back=states[Outcome.HELD_BACK],
        set_aside=states[Outcome.SET_ASIDE],
        dropped_by_quota=states[Outcome.DROPPED_BY_QUOTA],
    )
