"""Our worker as one more peer of an outside harness: its throughput and its latency, in its own words.

    python benchmarks/peers.py HARNESS [--events N] [--runs N] [--seconds S] [--peers A,B] [--out FOLDER]

HARNESS is a folder with `run.py` and `latency.py` that take `--add NAME=COMMAND` (see its README), set up
with its own virtual environment in `venv` and its Java peers built. It is written to (results, logs): use a
copy. Starts the embedded broker (or uses FARSHORE_KAFKA_BOOTSTRAP).
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import OUT, Json, document, machine_sentence, spread, table, write
from topics import open_broker

HERE = Path(__file__).resolve().parent
OURS = "farshore"
LIMIT = "limit-"
PROBE = "direct"
COMPUTE = "limit-compute"
STOCK = "faust-event"
THROUGHPUT = (
    "java-loop,confluent-loop,kstreams-batch,kstreams-event,aiokafka-batch,aiokafka-send,bytewax,"
    "bytewax-collect,quix-batch,quix-event,faust-take,faust-event,limit-compute,limit-consume"
)
LATENCY = (
    "direct,aiokafka-batch,aiokafka-send,java-loop,kstreams-event,kstreams-batch,confluent-loop,"
    "bytewax,quix-event,faust-event"
)
DELIVERED_MIN = 0.99
FIELDS = ("events_per_second", "events_per_cpu_second", "max_rss_mb")
SHOWN = ("java-loop", "confluent-loop", "kstreams-batch", "aiokafka-batch", "bytewax", "quix-batch", STOCK)
LONG_NAMES = {
    "java-loop": "plain Java loop, ONNX Runtime for Java",
    "confluent-loop": "confluent-kafka loop, tuned",
    "kstreams-batch": "Kafka Streams, batches",
    "aiokafka-batch": "aiokafka loop, `send_batch`",
    "bytewax": "Bytewax",
    "quix-batch": "Quix Streams, batches",
    STOCK: "stock Faust, one event at a time",
    COMPUTE: "a naive loop in memory, without Kafka",
}


def markdown(found: Json) -> str:
    """The verdict on each bound, the two tables, and what they were taken on."""
    asked, results = found["parameters"], found["results"]
    return (
        throughput_table(results["throughput"])
        + f"\nMedians (least–most) of {asked['runs']} alternating runs over {asked['events']:,} events "
        "(slow peers: fewer, as the harness says); every result checked against a reference.\n\n"
        + latency_table(results["latency"])
        + f"\nMilliseconds from producer to result, p50 · p99, {asked['latency_runs']} runs of "
        f"{asked['seconds']:g} s. {machine_sentence(found['machine'])}\n\n" + verdicts(results)
    )


def short_markdown(found: Json) -> str:
    """One table for the README: ours, the best known peers, stock Faust and a loop without Kafka."""
    asked, results = found["parameters"], found["results"]
    runs, latency = results["throughput"], results["latency"]
    rates = sorted({int(name.partition("@")[2]) for name in latency})
    names = [OURS, *(name for name in SHOWN if runs.get(name)), *([COMPUTE] if runs.get(COMPUTE) else [])]
    rows = sorted(names, key=lambda name: (name == COMPUTE, -_median(runs[name], "events_per_second")))
    head = [
        "",
        "events/s",
        "events per CPU second",
        "peak MB",
        *(f"p50 · p99 ms at {rate:,}/s" for rate in rates),
    ]
    body = [
        [
            f"**{name}**" if name == OURS else LONG_NAMES.get(name, name),
            *(spread([run[field] for run in runs[name]]) for field in FIELDS),
            *(_latency_cell(latency.get(f"{name}@{rate}", [])) for rate in rates),
        ]
        for name in rows
    ]
    return (
        table(head, body)
        + f"\nMedians (least–most) of {asked['runs']} alternating runs over {asked['events']:,} events. "
        f"{machine_sentence(found['machine'])}\n"
    )


def throughput_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Ours and the peers by their median by the clock; the limits at the end."""
    rows = sorted(
        ((name, runs) for name, runs in results.items() if runs),
        key=lambda row: (row[0].startswith(LIMIT), -_median(row[1], "events_per_second")),
    )
    return table(
        ["peer", "events/s", "events per CPU second", "peak MB"],
        [
            [_named(name, runs)] + [spread([run[field] for run in runs]) for field in FIELDS]
            for name, runs in rows
        ],
    )


def _named(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    checked = [run["verified"]["ok"] for run in runs if "verified" in run]
    shown = f"**{name}**" if name == OURS else name
    return shown if all(checked) else f"{shown} (results wrong or missing)"


def latency_table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Peers by rate; the harness names a measurement `peer@rate`."""
    names = list(dict.fromkeys(name.partition("@")[0] for name in results))
    rates = sorted({int(name.partition("@")[2]) for name in results})
    return table(
        ["peer"] + [f"p50 · p99 at {rate:,}/s" for rate in rates],
        [
            [f"**{name}**" if name == OURS else name]
            + [_latency_cell(results.get(f"{name}@{rate}", [])) for rate in rates]
            for name in names
        ],
    )


def _latency_cell(runs: Sequence[Mapping[str, float]]) -> str:
    if not runs:
        return "–"
    if not _keeps_up(runs):
        return "cannot keep up"
    return " · ".join(spread([run[field] for run in runs], 1) for field in ("p50_ms", "p99_ms"))


def _keeps_up(runs: Sequence[Mapping[str, float]]) -> bool:
    return bool(runs) and min(run["delivered"] for run in runs) >= DELIVERED_MIN


def verdicts(results: Mapping[str, Any]) -> str:
    """Each bound, the figures it compares, and whether it holds in this run."""
    runs = results["throughput"]
    peers = [name for name, found in runs.items() if found and name != OURS and not name.startswith(LIMIT)]
    rows = []
    bounds = (
        ("events_per_second", 1.0, "by the clock: ahead of every peer"),
        ("events_per_cpu_second", 1.2, "per CPU second: at least 1.2 times the best peer"),
    )
    for field, factor, what in bounds if peers else ():
        best = max(peers, key=lambda name: _median(runs[name], field))
        rows.append(_verdict(what, _median(runs[OURS], field), _median(runs[best], field), factor, best))
    for name, field, factor, what in (
        (COMPUTE, "events_per_cpu_second", 0.8, "per CPU second: at least 0.8 of the in-memory loop"),
        (STOCK, "events_per_second", 60.0, "by the clock: at least 60 times stock Faust"),
    ):
        if runs.get(name):
            rows.append(_verdict(what, _median(runs[OURS], field), _median(runs[name], field), factor, name))
    found = results["latency"]
    measured = {name.partition("@")[0] for name in found} - {OURS, PROBE}
    for rate in sorted({int(name.partition("@")[2]) for name in found}):
        others = {
            name: _median(found[f"{name}@{rate}"], "p99_ms")
            for name in sorted(measured)
            if _keeps_up(found.get(f"{name}@{rate}", []))
        }
        if others and found.get(f"{OURS}@{rate}"):
            best = min(others, key=others.__getitem__)
            ours = _median(found[f"{OURS}@{rate}"], "p99_ms")
            rows.append(
                [
                    f"p99 at {rate:,}/s: no later than the best of {len(measured)} peers",
                    f"{ours:.1f} ms",
                    f"{others[best]:.1f} ms ({best})",
                    "holds" if ours <= others[best] else "**missed**",
                ]
            )
    return table(["bound", "farshore", "compared with", "in this run"], rows)


def _verdict(what: str, ours: float, other: float, factor: float, name: str) -> list[str]:
    return [
        what,
        f"{ours:,.0f} ({ours / other:.2f}×)",
        f"{other:,.0f} ({name})",
        "holds" if ours >= factor * other else "**missed**",
    ]


def _median(runs: Sequence[Mapping[str, Any]], field: str) -> float:
    return statistics.median(float(run[field]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("harness", type=Path)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default=THROUGHPUT, help="of the throughput runs")
    parser.add_argument("--latency-peers", default=LATENCY, help="empty for no latency")
    parser.add_argument("--latency-runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each latency measurement")
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds at that load before it")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    harness: Path = options.harness.resolve()
    python = harness / "venv" / "bin" / "python"
    for needed in (harness / "run.py", harness / "latency.py", python):
        if not needed.exists():
            raise SystemExit(f"{needed} is missing: PEERS must be the harness's folder, set up with its venv")
    peer = f"{sys.executable} {HERE / 'peer.py'}"
    results: Json = {"throughput": {}, "latency": {}}
    with open_broker() as broker:
        common = ["--bootstrap", broker.bootstrap, "--out"]
        if options.peers:
            found = harness / "farshore-throughput.json"
            _run(harness, python, "run.py", *common, str(found), "--events", str(options.events),
                 "--runs", str(options.runs), "--topic", f"events_{options.events}",
                 "--peers", options.peers, "--add", f"{OURS}={peer}")  # fmt: skip
            results["throughput"] = json.loads(found.read_text())
        if options.latency_peers:
            found = harness / "farshore-latency.json"
            _run(harness, python, "latency.py", *common, str(found), "--runs", str(options.latency_runs),
                 "--seconds", str(options.seconds), "--warmup", str(options.warm_up),
                 "--peers", options.latency_peers, "--add", f"{OURS}=TIME_UNIT=us {peer}")  # fmt: skip
            results["latency"] = json.loads(found.read_text())
    asked = {
        "events": options.events,
        "runs": options.runs,
        "latency_runs": options.latency_runs,
        "seconds": options.seconds,
    }
    write(document("peers", asked, results), markdown, options.out)


def _run(harness: Path, python: Path, *arguments: str) -> None:
    subprocess.run([str(python), *arguments], cwd=harness, check=True)


if __name__ == "__main__":
    main()
