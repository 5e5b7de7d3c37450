"""What an agent receives: the records of one partition that one poll brought, column by column."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PartitionBatch"]


@dataclass(frozen=True, slots=True, eq=False)
class PartitionBatch:
    """Records of one partition in offset order, never empty; all columns have the same length.

    Offsets may have gaps (compaction, aborted transactions, control records). `next_offset` is where reading
    goes on after this batch, at least `offsets[-1] + 1`: committing it covers every gap inside and behind.
    """

    topic: str
    partition: int
    next_offset: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    size_bytes: int

    def __len__(self) -> int:
        return len(self.offsets)
