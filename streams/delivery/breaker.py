"""The uplink's circuit breaker: one state for the link, and how long to wait before the next attempt.

    OFFLINE ──attempt──► PROBING ──success──► ONLINE ⇄ THROTTLED
       ▲                    │                   │          │
       └──────failure───────┴───────failure─────┴──────────┘

Guarantees: waits grow by doubling with jitter and never pass their ceiling; attempts have no end, because an
outage has none that is known. Pure: the clock and the source of jitter are given.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["BUSY_SECONDS_MIN", "BackoffLimits", "Breaker", "UplinkState"]

BUSY_SECONDS_MIN: Final = 4.0
"""Event Hubs asks clients it is too busy for to wait four seconds."""


class UplinkState(StrEnum):
    """What the link is believed to be."""

    OFFLINE = "offline"
    PROBING = "probing"
    THROTTLED = "throttled"
    ONLINE = "online"

    @property
    def number(self) -> int:
        """The value of the metric `farshore_uplink_state`."""
        return list(UplinkState).index(self)


@dataclass(frozen=True, slots=True)
class BackoffLimits:
    """The first wait after a failure, and the longest."""

    seconds_min: float = 0.5
    seconds_max: float = 30.0


class Breaker:
    """Told of attempts and their results, it says when to try next."""

    def __init__(
        self,
        limits: BackoffLimits,
        *,
        clock: Callable[[], float],
        on_change: Callable[[UplinkState, UplinkState, str], None],
        jitter: random.Random | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._on_change = on_change
        self._jitter = jitter or random.Random()
        self._setbacks = 0
        self._next_attempt = clock()
        self.state = UplinkState.OFFLINE

    def wait_seconds(self) -> float:
        """How long to wait before the next attempt; 0 when it may be made now."""
        return max(0.0, self._next_attempt - self._clock())

    def attempting(self) -> None:
        """An attempt begins."""
        if self.state is UplinkState.OFFLINE:
            self._become(UplinkState.PROBING, "trying")

    def succeeded(self) -> None:
        """The service acknowledged."""
        self._setbacks = 0
        self._become(UplinkState.ONLINE, "acknowledged")

    def failed(self, reason: str) -> None:
        """The attempt came to nothing, or nobody knows what it came to."""
        self._put_off(self._limits.seconds_min, self._limits.seconds_max)
        self._become(UplinkState.OFFLINE, reason)

    def busy(self, reason: str) -> None:
        """The service is there and asks for patience."""
        self._put_off(BUSY_SECONDS_MIN, max(BUSY_SECONDS_MIN, self._limits.seconds_max))
        self._become(UplinkState.THROTTLED, reason)

    def _put_off(self, seconds_min: float, seconds_max: float) -> None:
        # The exponent is bounded: 2.0 ** 2000 is no float.
        wait = min(seconds_max, seconds_min * 2.0 ** min(self._setbacks, 32))
        self._setbacks += 1
        # At least the asked minimum, at most the ceiling, and not in step with every other site.
        self._next_attempt = self._clock() + max(seconds_min, wait * self._jitter.uniform(0.5, 1.0))

    def _become(self, state: UplinkState, reason: str) -> None:
        if state is not self.state:
            before, self.state = self.state, state
            self._on_change(before, state, reason)
