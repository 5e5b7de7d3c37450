"""Moves the wall clock of a Python process while it runs; the file that SOAK_CLOCK names says how far.

Python imports this at its start when this folder is on PYTHONPATH. It covers `time.time` and `time.time_ns`,
where farshore, Faust and aiokafka take wall time from, and the times of records, which aiokafka's compiled
builder takes from the system by itself; `time.monotonic` goes on undisturbed, as it does when a clock is set.
"""

import mmap
import os
import struct
import time
from pathlib import Path

from aiokafka.producer.message_accumulator import BatchBuilder


def _shift(path: str) -> None:
    with Path(path).open("rb") as file:
        view = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    read = struct.Struct("<q").unpack_from
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + read(view)[0] / 1e9
    time.time_ns = lambda: nanoseconds() + read(view)[0]
    append = BatchBuilder.append

    def append_with_time(self, *, timestamp, **record):
        return append(self, timestamp=int(time.time() * 1000) if timestamp is None else timestamp, **record)

    BatchBuilder.append = append_with_time


if "SOAK_CLOCK" in os.environ:
    _shift(os.environ["SOAK_CLOCK"])
