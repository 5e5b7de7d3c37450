"""How fast to send: caps on bytes and events, and batches that fit a slow line.

Guarantees: over any stretch of time T no more than rate * (T + 1 s) leaves, plus what was under way; a batch
that the line could not carry in time is followed by smaller ones, down to BATCH_BYTES_MIN. Pure: the clock is
given.
"""

from collections.abc import Callable
from typing import Final

__all__ = ["BATCH_BYTES_MIN", "BatchSize", "Cap", "Pace"]

BATCH_BYTES_MIN: Final = 4_096
_BATCH_BYTES_FIRST: Final = 131_072
_QUICK: Final = 0.25
"""A batch acknowledged within this share of the limit may be followed by one twice as large."""


class Cap:
    """A rate that is paid for afterwards: what was sent is charged, and the debt runs off at the rate."""

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = clock()

    @property
    def per_second(self) -> float | None:
        """The rate; None is no cap."""
        return self._per_second

    def wait_seconds(self) -> float:
        """Until the debt is paid."""
        return max(0.0, self._free_at - self._clock())

    def charge(self, amount: float) -> None:
        """Note what leaves now."""
        if self._per_second is not None:
            self._free_at = max(self._free_at, self._clock()) + amount / self._per_second


class Pace:
    """Both caps of a link."""

    def __init__(
        self,
        kbits_per_second_max: float | None,
        events_per_second_max: float | None,
        *,
        senders: int,
        clock: Callable[[], float],
    ) -> None:
        self._bytes = Cap(kbits_per_second_max and kbits_per_second_max * 125, clock)
        self._events = Cap(events_per_second_max, clock)
        self._senders = senders

    def wait_seconds(self) -> float:
        """Until the next batch may leave."""
        return max(self._bytes.wait_seconds(), self._events.wait_seconds())

    def charge(self, events: int, size_bytes: int) -> None:
        """Note a batch that leaves now."""
        self._events.charge(events)
        self._bytes.charge(size_bytes)

    @property
    def batch_bytes_max(self) -> int | None:
        """What all senders together may send in one second, for each; None without a cap."""
        rate = self._bytes.per_second
        return None if rate is None else max(1, int(rate / self._senders))

    @property
    def batch_events_max(self) -> int | None:
        """The same in events."""
        rate = self._events.per_second
        return None if rate is None else max(1, int(rate / self._senders))


class BatchSize:
    """The largest batch that the line has shown to carry within `seconds_max`."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self.bytes_max = _BATCH_BYTES_FIRST

    def carried(self, size_bytes: int, seconds: float) -> None:
        """A batch was acknowledged."""
        if seconds < self._seconds_max * _QUICK and 2 * size_bytes > self.bytes_max:
            self.bytes_max *= 2

    def not_carried(self) -> None:
        """No answer came in time: a line that is away, or one that is slower than thought."""
        self.bytes_max = max(BATCH_BYTES_MIN, self.bytes_max // 2)

    def fit(self, link_bytes_max: int) -> int:
        """The same within the link's own limit."""
        # A limit that grew far beyond the link's would take long to fall again.
        self.bytes_max = min(self.bytes_max, max(link_bytes_max, BATCH_BYTES_MIN))
        return min(self.bytes_max, link_bytes_max)
