"""A deliberate cut of the uplink, as a drill asks for: it always ends by itself.

Invariant: 0 <= wait_seconds <= HOLD_SECONDS_MAX, whatever was asked for. Pure: the clock is given.
"""

from collections.abc import Callable
from typing import Final

__all__ = ["HOLD_SECONDS_MAX", "Hold"]

HOLD_SECONDS_MAX: Final = 3_600.0


class Hold:
    """Told to begin and to end; asked how long the uplink is still to be left alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock()

    def begin(self, seconds: float) -> None:
        """No attempt for `seconds` from now; a later word replaces an earlier one."""
        self._until = self._clock() + min(max(0.0, seconds), HOLD_SECONDS_MAX)

    def end(self) -> None:
        """Attempts may be made again."""
        self._until = self._clock()

    def wait_seconds(self) -> float:
        """How long it still holds; 0 when it does not."""
        return max(0.0, self._until - self._clock())
