"""How two kinds of traffic share one link: what has just come, and what has waited.

Each kind has a virtual time that runs on by bytes over its share; the kind that is behind has the turn, and a
kind that asks alone has it always. Guarantees: while both ask, the live kind gets its fraction of the bytes,
give or take what is under way and one batch; a kind that did not ask for a while cannot make up for it later,
so the other one never stands still; with a fraction of None nobody ever waits. Pure: no clock is needed.
"""

from collections import Counter
from enum import StrEnum
from typing import Final

__all__ = ["Share", "Traffic"]


class Traffic(StrEnum):
    """What an anomaly on its way is: it came while the link was there, or it had waited for the link."""

    LIVE = "live"
    BACKLOG = "backlog"


class Share:
    """Of one link, used by all that send on it."""

    def __init__(self, live_fraction: float | None) -> None:
        """`live_fraction` lies between 0 and 1, neither included."""
        self._weights: Final = (
            None
            if live_fraction is None
            else {Traffic.LIVE: live_fraction, Traffic.BACKLOG: 1.0 - live_fraction}
        )
        self._virtual = dict.fromkeys(Traffic, 0.0)
        self._asking: Counter[Traffic] = Counter()
        self._other_at_end = dict.fromkeys(Traffic, 0.0)

    def begin(self, kind: Traffic) -> None:
        """One more has a batch of this kind that waits for its turn."""
        if self._asking[kind] == 0:
            # What was not asked for is gone: as far as the other kind has got meanwhile, but not beyond it.
            mine, others = self._virtual[kind], self._virtual[_other(kind)]
            self._virtual[kind] = max(mine, min(others, mine + others - self._other_at_end[kind]))
        self._asking[kind] += 1

    def end(self, kind: Traffic) -> None:
        """It leaves now, after its charge, or is given up. Who waits for an answer does not ask."""
        self._asking[kind] -= 1
        self._other_at_end[kind] = self._virtual[_other(kind)]

    def may(self, kind: Traffic) -> bool:
        """Whether a batch of this kind may leave now."""
        if self._weights is None or self._asking[_other(kind)] == 0:
            return True
        mine, others = self._virtual[kind], self._virtual[_other(kind)]
        return mine < others or (mine == others and kind is Traffic.LIVE)

    def charge(self, kind: Traffic, size_bytes: int) -> None:
        """Note a batch that leaves now."""
        if self._weights is not None:
            self._virtual[kind] += size_bytes / self._weights[kind]


def _other(kind: Traffic) -> Traffic:
    return Traffic.BACKLOG if kind is Traffic.LIVE else Traffic.LIVE
