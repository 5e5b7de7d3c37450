"""The event hub: its partitions, and which of them an event without a partition goes to."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from .partitions import Partition

PARTITIONS_MAX = 1_024
PARTITION_BYTES_MAX = 128 * 1_048_576


def wall_clock_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Hub:
    """Named partitions "0" to "n-1"; events with the same key go to the same one, in every run."""

    def __init__(
        self,
        name: str,
        partitions: int,
        *,
        partition_bytes_max: int = PARTITION_BYTES_MAX,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise ValueError(f"a hub has 1 to {PARTITIONS_MAX} partitions, not {partitions}")
        self.name = name
        self.created_ms = now_ms()
        self.partitions = {
            str(index): Partition(str(index), bytes_max=partition_bytes_max, now_ms=now_ms)
            for index in range(partitions)
        }
        self._turn = 0

    def choose(self, partition_key: str | None) -> Partition:
        """The partition for an event that names none: by its key's hash, without a key in turns."""
        count = len(self.partitions)
        if partition_key is not None:
            return self.partitions[str(zlib.crc32(partition_key.encode("utf-8")) % count)]
        self._turn = (self._turn + 1) % count
        return self.partitions[str(self._turn)]
