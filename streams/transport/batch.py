"""What an agent receives: the records of one partition that one poll brought, column by column."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PartitionBatch"]


@dataclass(frozen=True, slots=True, eq=False)
class PartitionBatch:
    """Records of one partition in offset order, never empty; all columns have the same length.

    Offsets may have gaps (compaction, aborted transactions, control records). `next_offset` is where reading
    goes on after this batch, at least `offsets[-1] + 1`: committing it covers every gap inside and behind.
    Records below `live_from` have had their outcomes before; they are read again for what is kept of devices.
    """

    topic: str
    partition: int
    next_offset: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    size_bytes: int
    live_from: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def rebuild_rows(self) -> int:
        """How many records, from the first on, are read again."""
        return bisect_left(self.offsets, self.live_from) if self.offsets[0] < self.live_from else 0
