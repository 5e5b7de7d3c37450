"""Our worker beside the rivals of this folder: throughput over one topic, latency at fixed loads, in one run.

    python benchmarks/run.py [--events N] [--runs N] [--seconds S] [--rates 2000,20000] [--out FOLDER]

Starts the embedded broker (or uses FARSHORE_KAFKA_BOOTSTRAP). Contenders take turns, so that a drift of the
machine touches all of them. Each run's output is counted by distinct source position: a contender that lost
an event is reported as such.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, STOCK_FAUST, Result, run_once
from job import EventSpec, make_package
from latency import Latency, add_latency_options, as_json, measure
from report import OUT, Json, document, machine_sentence, spread, table, write
from topics import fill_with, new_name, open_broker

RATE_OF_STOCK_FAUST_MAX = 2_000  # it cannot follow more


def markdown(found: Json) -> str:
    """Two tables and what they were taken on."""
    asked = found["parameters"]
    return (
        throughput_table(found["results"]["throughput"])
        + f"\nMedians (least–most) of {asked['runs']} alternating runs over {asked['events']:,} events "
        f"(stock Faust: {STOCK_FAUST.events_max:,}); each run's results complete unless said otherwise.\n\n"
        + latency_table(found["results"]["latency"])
        + f"\nMilliseconds from producer to `scored`, {asked['runs']} runs of {asked['seconds']:g} s. "
        f"{machine_sentence(found['machine'])}\n"
    )


def throughput_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Contenders by their throughput; a row says so when a result is missing."""
    head = ["contender", "events/s", "events per CPU second", "resident MB"]
    fields = ("events_per_second", "events_per_cpu_second", "resident_mb_max")
    return table(
        head,
        [
            [name if all(run["complete"] for run in runs) else f"{name} **(results missing)**"]
            + [spread([run[field] for run in runs]) for field in fields]
            for name, runs in results.items()
            if runs
        ],
    )


def latency_table(results: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """Contenders by rate; whoever delivers less than what was sent cannot keep up."""
    rates = list(dict.fromkeys(rate for by_rate in results.values() for rate in by_rate))
    head = ["contender"] + [f"p50 · p99 at {int(rate):,}/s" for rate in rates]
    return table(
        head,
        [
            [name] + [_latency_cell(by_rate.get(rate, [])) for rate in rates]
            for name, by_rate in results.items()
        ],
    )


def _latency_cell(runs: Sequence[Mapping[str, float]]) -> str:
    if not runs:
        return "–"
    if min(run["delivered"] for run in runs) < 0.99:
        return "cannot keep up"
    return " · ".join(spread([run[field] for run in runs], 1) for field in ("p50_ms", "p99_ms"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    add_latency_options(parser, rates="2000,20000", seconds=20.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rates = [int(rate) for rate in options.rates.split(",") if rate]
    throughput: dict[str, list[Json]] = {contender.name: [] for contender in CONTENDERS}
    latency: dict[str, dict[str, list[Json]]] = {}
    with tempfile.TemporaryDirectory() as scratch, open_broker() as broker:
        package = make_package(Path(scratch) / "package")
        in_topic = new_name("in")
        fill_with(broker.bootstrap, in_topic, EventSpec(), options.events)
        for run in range(options.runs):
            for contender in CONTENDERS:
                result: Result = run_once(contender, broker.bootstrap, in_topic, package, options.events)
                throughput[contender.name].append(
                    {name: value for name, value in asdict(result).items() if name != "memory"}
                )
                print(f"run {run + 1} {contender.name}: {result.events_per_second:,.0f} events/s", flush=True)
            for rate in rates:
                for watched in (None, *CONTENDERS):
                    if watched is STOCK_FAUST and rate > RATE_OF_STOCK_FAUST_MAX:
                        continue
                    name = "the probe alone" if watched is None else watched.name
                    took: Latency = measure(
                        watched,
                        broker.bootstrap,
                        package,
                        rate,
                        spec=EventSpec(),
                        seconds=options.seconds,
                        warm_up_seconds=options.warm_up,
                    )
                    latency.setdefault(name, {}).setdefault(str(rate), []).append(as_json(took))
                    print(f"run {run + 1} {name} at {rate:,}/s: p99 {took.p99_ms:.1f} ms", flush=True)
    asked = {"events": options.events, "runs": options.runs, "seconds": options.seconds}
    write(document("rivals", asked, {"throughput": throughput, "latency": latency}), markdown, options.out)


if __name__ == "__main__":
    main()
