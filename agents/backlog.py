"""What those who read ahead of the bridge's own reading ask of it, and how they hand over what they read."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from ..streams.transport.batch import PartitionBatch

__all__ = ["Backlog", "batch_of_records"]


async def _no_mark(_partition: int) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Backlog:
    """`know` makes sure that what is settled of a partition is known, given the first record above its
    commit; `deliver` settles all anomalies of a batch, or stops at a rebalance; `mark_of` says from which
    offset on a partition is the live reader's, if it has one.
    """

    generation: Callable[[], int]
    assigned: Callable[[], Collection[int]]
    know: Callable[[int, int, int], Awaitable[None]]
    deliver: Callable[[PartitionBatch], Awaitable[bool]]
    mark_of: Callable[[int], Awaitable[int | None]] = _no_mark


def batch_of_records(topic: str, partition: int, records: Sequence[ConsumerRecord]) -> PartitionBatch:
    """Records of a reader of ours as the transport would hand them over."""
    return PartitionBatch(
        topic=topic,
        partition=partition,
        next_offset=records[-1].offset + 1,
        offsets=[record.offset for record in records],
        timestamps_ms=[record.timestamp for record in records],
        keys=[record.key for record in records],
        values=[record.value for record in records],
        size_bytes=0,
    )
