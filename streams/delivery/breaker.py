"""The uplink's circuit breaker: one state for the link, and how long to wait before the next attempt.

    OFFLINE ──attempt──► PROBING ──success──► ONLINE ⇄ THROTTLED
       ▲                    │                   │          │
       └──────failure───────┴───────failure─────┴──────────┘

Guarantees: waits grow by doubling with jitter and never pass their ceiling; attempts have no end, because
an outage has none that is known; of several attempts that were under way together, one setback counts,
since they tell the same story; a service that was busy lately is given longer waits, not the shortest one
again. Pure: the clock and the source of jitter are given.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["BUSY_SECONDS_MIN", "CALM_SECONDS", "BackoffLimits", "Breaker", "UplinkState"]

BUSY_SECONDS_MIN: Final = 4.0
"""Event Hubs asks clients it is too busy for to wait four seconds."""

CALM_SECONDS: Final = 60.0
"""For this long after it was busy, a service that is busy again is left alone for longer than before."""


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

    @property
    def is_there(self) -> bool:
        """Whether the service answered last time, be it that it was busy."""
        return self in (UplinkState.ONLINE, UplinkState.THROTTLED)


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
        self._failures = 0
        self._refusals = 0
        self._busy_until = clock()
        self._next_attempt = clock()
        self._epoch = 0
        self.state = UplinkState.OFFLINE

    def wait_seconds(self) -> float:
        """How long to wait before the next attempt; 0 when it may be made now."""
        return max(0.0, self._next_attempt - self._clock())

    @property
    def ready(self) -> bool:
        """Whether attempts may be made side by side; otherwise one at a time shows what the link is."""
        return self.state is UplinkState.ONLINE and self.wait_seconds() == 0

    def attempting(self) -> int:
        """An attempt begins; the number is to be told with its result."""
        if self.state is UplinkState.OFFLINE:
            self._become(UplinkState.PROBING, "trying")
        return self._epoch

    def succeeded(self, attempt: int | None = None) -> None:
        """The service acknowledged."""
        if self._is_old(attempt):
            return
        self._failures = 0
        if self._clock() >= self._busy_until:
            self._refusals = 0
        self._become(UplinkState.ONLINE, "acknowledged")

    def failed(self, reason: str, attempt: int | None = None) -> None:
        """The attempt came to nothing, or nobody knows what it came to."""
        if self._is_old(attempt):
            return
        self._put_off(self._limits.seconds_min, self._limits.seconds_max, self._failures)
        self._failures += 1
        self._become(UplinkState.OFFLINE, reason)

    def busy(self, reason: str, attempt: int | None = None) -> None:
        """The service is there and asks for patience."""
        if self._is_old(attempt):
            return
        self._put_off(BUSY_SECONDS_MIN, max(BUSY_SECONDS_MIN, self._limits.seconds_max), self._refusals)
        self._refusals += 1
        self._busy_until = self._next_attempt + CALM_SECONDS
        self._become(UplinkState.THROTTLED, reason)

    def _is_old(self, attempt: int | None) -> bool:
        """Whether it began before the last setback, which it is part of, or does not outweigh."""
        return attempt is not None and attempt < self._epoch

    def _put_off(self, seconds_min: float, seconds_max: float, before: int) -> None:
        # The exponent is bounded: 2.0 ** 2000 is no float.
        wait = min(seconds_max, seconds_min * 2.0 ** min(before, 32))
        self._epoch += 1
        # At least the asked minimum, at most the ceiling, and not in step with every other site.
        self._next_attempt = self._clock() + max(seconds_min, wait * self._jitter.uniform(0.5, 1.0))

    def _become(self, state: UplinkState, reason: str) -> None:
        if state is not self.state:
            before, self.state = self.state, state
            self._on_change(before, state, reason)
