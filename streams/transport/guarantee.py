"""What the consumer leaves to somebody else when offsets are committed together with results."""

from collections.abc import Mapping, Set
from typing import Protocol

from faust.types import TP

__all__ = ["OffsetOwner"]


class OffsetOwner(Protocol):
    """Commits offsets in place of the consumer, and is the only one that can.

    The order of calls: `take` after an assignment and before its commits are read; `commit` for offsets that
    no batch carries; `release` when the partitions are taken away.
    """

    async def take(self, partitions: Set[TP]) -> None:
        """Lock every earlier owner of `partitions` out; returns when nothing of theirs is under way.

        Tries until it succeeds; may be cancelled at any point. What was taken before is released first.
        """

    async def release(self) -> None:
        """Let go of everything within a bound; what is under way comes to nothing or is whole."""

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets that stand behind everything handed over; False when it did not come to that."""
