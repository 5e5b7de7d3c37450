"""The bandwidth limit: how long each connection pauses so that all together read no faster than one line.

A chunk is processed first and paid for afterwards, so a burst of one chunk for each connection passes at
once.
"""

from __future__ import annotations


class Line:
    """A line of `bytes_per_second`, shared; time comes from the caller."""

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    def occupy(self, bytes_read: int, now: float) -> float:
        """The seconds from `now` until the line has carried these bytes after all before them."""
        self._free_at = max(self._free_at, now) + bytes_read / self._bytes_per_second
        return self._free_at - now
