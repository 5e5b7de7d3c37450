"""Resident memory of the worker over a large backlog: below a limit, and flat.

    python benchmarks/backlog.py [--events N] [--limit-mb N] [--growth-max X] [--out FOLDER]

Exit code 1 when the limit is passed, or when memory still grows: once the first fifth of the work is cut off
as its start, the most of the second half of the rest is over a tenth above the most of the first.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from contenders import OURS, run_once
from job import EventSpec, make_package
from plot import Series, line_chart
from report import OUT, Json, document, machine_sentence, table, write
from topics import fill_with, new_name, open_broker

START_SHARE = 0.2
GROWTH_MAX = 1.1
LIMIT_MB = 300.0


def markdown(found: Json) -> str:
    """One row, and the verdict."""
    run, asked = found["results"], found["parameters"]
    first, second = run["resident_mb_halves"]
    return (
        table(
            ["backlog", "events/s", "most resident MB", "first half · second half"],
            [
                [
                    f"{asked['events']:,}",
                    f"{run['events_per_second']:,.0f}",
                    f"{run['resident_mb_max']:,.0f} (limit {asked['limit_mb']:,.0f})",
                    f"{first:,.0f} · {second:,.0f}",
                ]
            ],
        )
        + f"\nSampled ten times a second over the whole process. {machine_sentence(found['machine'])}\n"
    )


def chart(found: Json) -> str:
    """Resident memory over time, as SVG."""
    points = [(seconds, megabytes) for seconds, megabytes in found["results"]["memory"] if seconds > 0]
    return line_chart(
        f"Resident memory over a backlog of {found['parameters']['events']:,} events",
        "seconds since the start",
        "MB",
        [Series("farshore", points)],
        logarithmic=False,
    )


def halves(memory: Sequence[tuple[float, float]], seconds: float) -> tuple[float, float]:
    """The most of each half of the run's last `seconds`, its start cut off."""
    end = memory[-1][0]
    begin = end - seconds * (1 - START_SHARE)
    middle = (begin + end) / 2
    first = [megabytes for at, megabytes in memory if begin <= at < middle]
    return max(first, default=0.0), max(megabytes for at, megabytes in memory if at >= middle)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--limit-mb", type=float, default=LIMIT_MB)
    parser.add_argument("--growth-max", type=float, default=GROWTH_MAX)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, open_broker() as broker:
        in_topic = new_name("in")
        fill_with(broker.bootstrap, in_topic, EventSpec(), options.events)
        package = make_package(Path(scratch) / "package")
        run = run_once(OURS, broker.bootstrap, in_topic, package, options.events, by_source=False)
    if not run.complete:
        raise SystemExit("results are missing")
    first, second = halves(run.memory, run.events / run.events_per_second)
    results = {
        "events_per_second": run.events_per_second,
        "resident_mb_max": run.resident_mb_max,
        "resident_mb_halves": [first, second],
        "memory": run.memory,
    }
    asked = {"events": options.events, "limit_mb": options.limit_mb}
    found = document("backlog", asked, results)
    write(found, markdown, options.out)
    (options.out / "backlog.svg").write_text(chart(found), "utf-8")
    if run.resident_mb_max >= options.limit_mb or second > first * options.growth_max:
        raise SystemExit(f"memory: {run.resident_mb_max:.0f} MB at most, {first:.0f} then {second:.0f} MB")


if __name__ == "__main__":
    main()
