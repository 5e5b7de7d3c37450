"""Where in a log something stands, in few words: stretches of offsets, in order.

Guarantees: whatever was added lies in a stretch until it is forgotten; there are at most SPANS_MAX of them,
of which the nearest two are joined when there would be one more. Not guaranteed: that nothing else lies in
them.
"""

from collections.abc import Iterator
from typing import Final

__all__ = ["SPANS_MAX", "Spans"]

SPANS_MAX: Final = 32


class Spans:
    """Stretches, each from its first offset to that after its last one."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._spans)

    def add(self, start: int, end: int) -> None:
        """One more, which begins at or after the last one's start."""
        if self._spans and start <= self._spans[-1][1]:
            last_start, last_end = self._spans.pop()
            start, end = last_start, max(last_end, end)
        self._spans.append((start, end))
        if len(self._spans) > SPANS_MAX:
            gaps = [two[0] - one[1] for one, two in zip(self._spans, self._spans[1:], strict=False)]
            at = gaps.index(min(gaps))
            self._spans[at : at + 2] = [(self._spans[at][0], self._spans[at + 1][1])]

    def forget_below(self, offset: int) -> None:
        """What lies below is not asked for any more."""
        self._spans = [(max(start, offset), end) for start, end in self._spans if end > offset]
