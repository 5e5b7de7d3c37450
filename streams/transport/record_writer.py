"""Columns to a Kafka record batch, without a Python call and a look at the clock for each record.

aiokafka's BatchBuilder.append costs more than writing the bytes does. Here the
columns go straight to that builder; everything else stays aiokafka's: size limit, checksum, producer state.

Guarantee: the batch holds what BatchBuilder.append would have put into it, at one time for all records of a
call (a test compares the bytes).
"""

import time
from collections.abc import Sequence

from aiokafka.producer.message_accumulator import BatchBuilder

__all__ = ["append_records"]


def append_records(
    batch: BatchBuilder,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    headers: Sequence[list[tuple[str, bytes]]],
    start: int,
    stop: int,
) -> int:
    """Append records `start` to `stop` while they fit; returns the index of the first one left out.

    Columns reach at least to `stop`; `headers` may be empty instead. A batch that is full is closed.
    """
    if batch.closed():
        return start
    append = batch._builder.append
    now_ms = int(time.time() * 1000)
    offset, none = batch._relative_offset, list[tuple[str, bytes]]()
    index = start
    while index < stop:
        if append(offset, now_ms, keys[index], values[index], headers[index] if headers else none) is None:
            batch.close()
            break
        offset += 1
        index += 1
    batch._relative_offset = offset
    return index
