"""What windows cost: events a second through the pipeline, in memory, and bytes kept with a million devices.

No broker: decode, gather, score, encode, in one process on one thread, batches of 2,000 of the job's events
(500 devices, 16 features). Contenders take turns; the median of the turns counts.

  stateless      the job's autoencoder, each event by itself
  window         PCA residual of the device's last 32 readings (512 values a row)
  window, after  the same with a median over 5 scores and a rest of 60 s
"""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from job import FEATURES, EventSpec, make_package

from farshore.local.windowed_sample import write_windowed_package
from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.scoring.pipeline import EventPipeline
from farshore.streams.transport.batch import PartitionBatch

EVENTS = 200_000
BATCH_ROWS = 2_000
TURNS = 5
WINDOW = 32
LOOKBACK = 100_000
MILLION = 1_000_000


def packages(folder: Path) -> dict[str, ModelPackage]:
    recordings = [np.random.default_rng(seed).normal(size=(1_500, len(FEATURES))) for seed in range(2)]
    make_package(folder / "stateless")
    write_windowed_package(folder / "window", recordings, FEATURES, window=WINDOW, window_horizon=LOOKBACK)
    write_windowed_package(
        folder / "after",
        recordings,
        FEATURES,
        window=WINDOW,
        window_horizon=3 * LOOKBACK,
        median_of=5,
        rest_seconds=60,
    )
    names = {"stateless": "stateless", "window": "window", "window, after": "after"}
    return {label: load_package(folder / name) for label, name in names.items()}


def batches(made: list[tuple[bytes, bytes]], first_offset: int = 0) -> list[PartitionBatch]:
    found = []
    for start in range(0, len(made), BATCH_ROWS):
        part = made[start : start + BATCH_ROWS]
        offsets = range(first_offset + start, first_offset + start + len(part))
        keys, values = [key for key, _ in part], [value for _, value in part]
        found.append(
            PartitionBatch("events", 0, offsets.stop, offsets, [0] * len(part), keys, values, len(part))
        )
    return found


def pipeline(package: ModelPackage) -> EventPipeline:
    return EventPipeline(package, site="bench", event_bytes_max=100_000, batch_rows_max=BATCH_ROWS)


def speeds(contenders: dict[str, ModelPackage]) -> dict[str, float]:
    """Events per CPU second, medians."""
    work = batches(list(EventSpec().events(EVENTS)))
    gc.freeze()
    turns: dict[str, list[float]] = {label: [] for label in contenders}
    for _ in range(TURNS):
        for label, package in contenders.items():
            line = pipeline(package)
            begin = time.process_time()
            for batch in work:
                line.process(batch, now_ms=0)
            turns[label].append(EVENTS / (time.process_time() - begin))
    return {label: statistics.median(found) for label, found in turns.items()}


def renamed(value: bytes, number: int) -> bytes:
    """The event of another device."""
    return b'{"device":"unit-%d"' % number + value[value.index(b",") :]


def many_devices(package: ModelPackage, rounds: int = 2) -> Iterator[tuple[int, int, int]]:
    """Devices seen, bytes of the arrays, resident bytes, as a million devices send one event a round."""
    line, process = pipeline(package), psutil.Process()
    plain = list(EventSpec().events(BATCH_ROWS))
    for first in range(0, rounds * MILLION, BATCH_ROWS):
        made = [(key, renamed(value, (first + row) % MILLION)) for row, (key, value) in enumerate(plain)]
        (batch,) = batches(made, first)
        line.process(batch, now_ms=0)
        seen = first + BATCH_ROWS
        if seen in (BATCH_ROWS, LOOKBACK, 2 * LOOKBACK, 5 * LOOKBACK) or seen % MILLION == 0:
            yield seen, line.memory_bytes, process.memory_info().rss


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        contenders = packages(Path(folder))
        if "--memory" not in sys.argv:
            found = speeds(contenders)
            for label, speed in found.items():
                print(f"| {label} | {speed:,.0f} | {speed / found['stateless']:.2f} |")
        else:
            for seen, kept, resident in many_devices(contenders["window"]):
                print(f"| {seen:,} | {kept / 1e6:.1f} | {resident / 1e6:.0f} |")


if __name__ == "__main__":
    main()
