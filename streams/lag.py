"""Consumer lag as arithmetic: how far a commit is behind its partition's end in records, seconds and bytes.

Invariants:
  start <= counted_from(committed, log) <= end
  records = 0  implies  seconds = 0 and bytes = 0
  seconds >= 0, whatever the clocks of producer and reader say

Records is the distance in offsets, as Kafka's own tools count it: compacted and aborted records and markers
inside the distance count. Where nothing at all can be read in it, nothing waits, and the lag is 0.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["NO_LAG", "Lag", "LogRange", "Sample", "counted_from", "lag_between"]


@dataclass(frozen=True, slots=True)
class LogRange:
    """The readable offsets of a partition: `start` is the first one kept, `end` the next to be written."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read at a position.

    `offset` and `timestamp_ms` (epoch) are the first record's, `bytes_mean` is the mean size of it and of
    those read with it. An offset at or beyond the log's end says that there is no record.
    """

    offset: int
    timestamp_ms: int
    bytes_mean: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind on one partition; `bytes` is an estimate, records times their mean size."""

    records: int
    seconds: float
    bytes: float


NO_LAG: Final = Lag(0, 0.0, 0.0)


def counted_from(committed: int | None, log: LogRange) -> int:
    """The offset that lag is counted from: the commit, kept within the log; its start when there is none."""
    if committed is None:
        return log.start
    return max(log.start, min(committed, log.end))


def lag_between(committed: int | None, log: LogRange, sample: Sample | None, now_ms: int) -> Lag:
    """The lag of one commit; `sample` is what was read at `counted_from(committed, log)`.

    Without a sample (the read did not end in time) the records are known, age and bytes are not: both are 0.
    """
    records = log.end - counted_from(committed, log)
    if records <= 0:
        return NO_LAG
    if sample is None:
        return Lag(records, 0.0, 0.0)
    if sample.offset >= log.end:
        return NO_LAG
    # A timestamp below 0 is Kafka's word for none.
    age_ms = max(0, now_ms - sample.timestamp_ms) if sample.timestamp_ms >= 0 else 0
    return Lag(records, age_ms / 1000, records * sample.bytes_mean)
