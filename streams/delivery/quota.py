"""The store's quota as arithmetic: growth, time to full, time to drain, and how much has to go.

Invariants:
  bytes_to_drop = 0 below the high-water mark
  seconds_to_full = +Inf without a quota or without growth, 0 at or beyond the quota
  seconds_to_drain = 0 when nothing waits, +Inf when what waits does not become less
Pure: times are given, in seconds of any one clock.
"""

import math
from collections import deque
from typing import Final

__all__ = ["SAMPLES_MAX", "Growth", "bytes_to_drop", "seconds_to_drain", "seconds_to_full"]

SAMPLES_MAX: Final = 240


class Growth:
    """How fast a quantity changes, over at most `window_seconds` and SAMPLES_MAX samples.

    From the first sample to the last: a log that a cleaner shortens now and then moves like a saw, and its
    teeth are not its growth.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now_seconds: float, value: float) -> None:
        """A measurement; times must not go back."""
        samples = self._samples
        # Thinned rather than cut: with frequent samples the window would not be reached.
        if len(samples) > 1 and now_seconds - samples[-2][0] < self._window_seconds / SAMPLES_MAX:
            samples.pop()
        samples.append((now_seconds, value))
        while samples[-1][0] - samples[0][0] > self._window_seconds or len(samples) > SAMPLES_MAX:
            samples.popleft()

    @property
    def per_second(self) -> float:
        """Change a second; 0 before there are two samples at two times."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def seconds_to_full(store_bytes: float, quota_bytes: float | None, growth_per_second: float) -> float:
    """(quota − bytes) / net growth."""
    if quota_bytes is None:
        return math.inf
    left = quota_bytes - store_bytes
    if left <= 0:
        return 0.0
    return left / growth_per_second if growth_per_second > 0 else math.inf


def seconds_to_drain(waiting: float, growth_per_second: float) -> float:
    """What waits by how fast it becomes less, what arrives meanwhile included."""
    if waiting <= 0:
        return 0.0
    return waiting / -growth_per_second if growth_per_second < 0 else math.inf


def bytes_to_drop(
    store_bytes: float,
    quota_bytes: float,
    *,
    high_water: float,
    growth_per_second: float,
    settle_seconds: float,
) -> int:
    """What must go now, so that the store stays under its mark until a cleaner has had its turn.

    At the mark: what is above it, and what arrives within `settle_seconds`, for it is that long before room
    is measured and the next drop may be made. Never more than the store holds.
    """
    above = store_bytes - high_water * quota_bytes
    if above < 0:
        return 0
    arriving = max(0.0, growth_per_second) * settle_seconds
    return math.ceil(min(store_bytes, max(1.0, above + arriving)))
