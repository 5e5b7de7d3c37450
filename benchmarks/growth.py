"""Events a second against what grows: partitions, devices, features, event size, backlog.

    python benchmarks/growth.py [--events N] [--runs N] [--only AXIS,AXIS] [--scale X] [--out FOLDER]

One axis at a time, everything else as in the job. Wide and large events are fewer, so that no point moves
more than VOLUME_BYTES. Axes that are left out keep what an earlier run wrote to the same folder.
`--scale 0.01` takes a hundredth of all counts, to see that it runs. Writes growth.json, a table, and an SVG
for each axis.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contenders import OURS, run_once
from job import DEVICES, FEATURE_COUNT, PARTITIONS, EventSpec, make_package
from plot import Series, line_chart
from report import OUT, Json, document, machine_sentence, spread, table, write
from topics import delete_topics, fill_with, new_name, open_broker

VOLUME_BYTES = 400_000_000
EVENTS_MIN = 2_000


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of everything that can grow."""

    partitions: int = PARTITIONS
    devices: int = DEVICES
    features: int = FEATURE_COUNT
    event_bytes: int = 0
    events: int = 0

    @property
    def spec(self) -> EventSpec:
        """Its events."""
        return EventSpec(self.features, self.devices, self.event_bytes)


AXES = {
    "partitions": [Point(partitions=count) for count in (1, 2, 4, 8, 16, 32, 64)],
    "devices": [Point(devices=10**power) for power in range(1, 7)],
    "features": [Point(features=count) for count in (4, 16, 64, 256, 1_024)],
    "event_bytes": [
        Point(features=4, event_bytes=size) for size in (200, 1_000, 3_000, 10_000, 30_000, 100_000)
    ],
    "events": [Point(events=count) for count in (100_000, 300_000, 1_000_000, 2_000_000, 5_000_000)],
}
NAMES = {
    "partitions": "partitions",
    "devices": "devices",
    "features": "features",
    "event_bytes": "bytes of an event",
    "events": "events in the backlog",
}
PROPORTIONAL = ("features", "event_bytes")
"""Along these an event gets larger; with both axes logarithmic a cost in proportion is a straight line."""


def markdown(found: Json) -> str:
    """A table an axis, and what they were taken on."""
    return "\n".join([*(axis_table(found, axis) for axis in found["results"]), terms(found)])


def terms(found: Json) -> str:
    """How often each point was measured, and on what."""
    runs = found["parameters"]["runs"]
    return f"Medians (least–most) of {runs} runs. {machine_sentence(found['machine'])}\n"


def axis_table(found: Json, axis: str) -> str:
    """One axis as a table."""
    rows = [
        [
            f"{point['x']:,}",
            spread([run["events_per_second"] for run in point["runs"]]),
            spread([run["events_per_cpu_second"] for run in point["runs"]]),
            f"{statistics.median(run['megabytes_per_cpu_second'] for run in point['runs']):,.0f}",
            f"{statistics.median(run['batch_rows_mean'] for run in point['runs']):,.0f}",
            f"{max(run['resident_mb_max'] for run in point['runs']):,.0f}",
        ]
        for point in found["results"][axis]
    ]
    head = ["events/s", "events per CPU second", "MB per CPU second", "events a batch", "peak MB"]
    return table([NAMES[axis], *head], rows)


def chart(found: Json, axis: str) -> str:
    """One axis as SVG."""
    fields = {"by the clock": "events_per_second", "per CPU second": "events_per_cpu_second"}
    return line_chart(
        f"Events a second against {NAMES[axis]}",
        NAMES[axis],
        "events",
        [
            Series(
                name,
                [
                    (point["x"], statistics.median(run[field] for run in point["runs"]))
                    for point in found["results"][axis]
                ],
            )
            for name, field in fields.items()
        ],
        y_logarithmic=axis in PROPORTIONAL,
    )


def measure(bootstrap: str, point: Point, events: int, runs: int) -> list[Json]:
    """Runs of our worker over one topic."""
    topic = new_name("in")
    size = len(next(iter(point.spec.events(1)))[1])
    count = point.events or max(EVENTS_MIN, min(events, VOLUME_BYTES // size))
    fill_with(bootstrap, topic, point.spec, count, point.partitions)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        package = make_package(Path(scratch) / "package", point.features)
        for _ in range(runs):
            run = run_once(
                OURS, bootstrap, topic, package, count, partitions=point.partitions, by_source=False
            )
            if not run.complete:
                raise SystemExit(f"{point}: results are missing")
            found.append(
                {
                    "events": count,
                    "event_bytes": size,
                    "events_per_second": run.events_per_second,
                    "events_per_cpu_second": run.events_per_cpu_second,
                    "megabytes_per_cpu_second": run.events_per_cpu_second * size / 1e6,
                    "resident_mb_max": run.resident_mb_max,
                    **run.more,
                }
            )
            print(f"{point}: {run.events_per_second:,.0f} events/s", flush=True)
    asyncio.run(delete_topics(bootstrap, topic))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="where the backlog is not what grows")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(AXES), help="axes, comma-separated")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    before = options.out / "growth.json"
    results: dict[str, list[Json]] = json.loads(before.read_text())["results"] if before.exists() else {}
    with open_broker() as broker:
        for axis in options.only.split(","):
            results[axis] = []
            for point in AXES[axis]:
                scaled = max(EVENTS_MIN, int(point.events * options.scale)) if point.events else 0
                shrunk = Point(point.partitions, point.devices, point.features, point.event_bytes, scaled)
                runs = measure(
                    broker.bootstrap,
                    shrunk,
                    max(EVENTS_MIN, int(options.events * options.scale)),
                    options.runs,
                )
                results[axis].append({"x": getattr(shrunk, axis), "runs": runs})
    ordered = {axis: results[axis] for axis in AXES if axis in results}
    found = document("growth", {"events": options.events, "runs": options.runs}, ordered)
    write(found, markdown, options.out)
    for axis in ordered:
        (options.out / f"growth-{axis}.svg").write_text(chart(found, axis), "utf-8")


if __name__ == "__main__":
    main()
