"""Which offsets may be committed: ranges handed out, ranges done, per partition.

Invariants, for each partition:
  committable = end of the longest run of done ranges from the oldest outstanding one
  a range counts from the end of the one before it, so gaps in offsets never stop a commit
  rows and bytes outstanding fall only when a range is done or its partition is taken away

Not thread-safe: it lives in the loop of the Faust app.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["OffsetLedger", "Range"]


@dataclass(slots=True, eq=False)
class Range:
    """Offsets up to `end` (exclusive) handed to an agent as one batch."""

    end: int
    rows: int
    size_bytes: int
    done: bool = False
    forgotten: bool = False
    """Its partition was taken away or is read anew: whoever holds it must not work on it any more."""


@dataclass(slots=True)
class _Partition:
    outstanding: deque[Range] = field(default_factory=deque)
    committable: int | None = None
    committed: int | None = None


P = TypeVar("P", bound=Hashable)


class OffsetLedger(Generic[P]):
    """Outstanding ranges of every assigned partition; P is what names a partition."""

    def __init__(self) -> None:
        self._partitions: dict[P, _Partition] = {}
        self.rows_outstanding = 0
        self.bytes_outstanding = 0
        self.batches_outstanding = 0

    @property
    def in_hand(self) -> bool:
        """Whether any batch is handed out and not settled."""
        return self.batches_outstanding > 0

    def hand_out(self, partition: P, *, end: int, rows: int, size_bytes: int) -> Range:
        """Note a batch on its way to an agent."""
        handed = Range(end, rows, size_bytes)
        self._partitions.setdefault(partition, _Partition()).outstanding.append(handed)
        self.rows_outstanding += rows
        self.bytes_outstanding += size_bytes
        self.batches_outstanding += 1
        return handed

    def finish(self, partition: P, handed: Range) -> None:
        """Note that every effect of a batch is acknowledged. Of a partition taken away meanwhile: nothing."""
        state = self._partitions.get(partition)
        if handed.done or state is None or handed not in state.outstanding:
            return
        handed.done = True
        self._release(handed)
        while state.outstanding and state.outstanding[0].done:
            state.committable = state.outstanding.popleft().end

    def committable(self) -> dict[P, int]:
        """The offset to commit for each partition where that would be news."""
        return {
            partition: state.committable
            for partition, state in self._partitions.items()
            if state.committable is not None and state.committable != state.committed
        }

    def committed(self, partition: P) -> int | None:
        """What the broker has taken last of a partition, since this worker has it."""
        state = self._partitions.get(partition)
        return None if state is None else state.committed

    def reach(self, partition: P, position: int) -> None:
        """Note that reading stands at `position` and every record below it was handed out.

        What lies between the last record and `position` is no record (transaction markers, aborted or
        compacted ones), so it is settled with that record, or at once when nothing is outstanding.
        """
        state = self._partitions.setdefault(partition, _Partition())
        if state.outstanding:
            state.outstanding[-1].end = max(state.outstanding[-1].end, position)
        else:
            state.committable = max(state.committable or 0, position)

    def note_committed(self, offsets: Mapping[P, int]) -> None:
        """Note what the broker has taken."""
        for partition, offset in offsets.items():
            state = self._partitions.get(partition)
            if state is not None:
                state.committed = offset

    def note_commit_gone(self, partition: P) -> None:
        """Note that the broker has no commit any more: the one it had is news again."""
        state = self._partitions.get(partition)
        if state is not None:
            state.committed = None

    def forget(self, partitions: Iterable[P]) -> None:
        """Drop partitions that were taken away or are read anew; their batches in progress count no more."""
        for partition in partitions:
            state = self._partitions.pop(partition, None)
            for handed in state.outstanding if state is not None else ():
                handed.forgotten = True
                if not handed.done:
                    self._release(handed)

    def _release(self, handed: Range) -> None:
        self.rows_outstanding -= handed.rows
        self.bytes_outstanding -= handed.size_bytes
        self.batches_outstanding -= 1
