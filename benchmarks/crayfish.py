"""The Crayfish benchmark's job (EDBT 2024): its 28,000-parameter network on 28x28 inputs as JSON.

    python benchmarks/crayfish.py MODEL [--harness FOLDER] [--events N] [--runs N] [--rates A,B]

MODEL is Crayfish's `model-ffnn.onnx`, input [batch, 1, 784]; an event carries an array of 784 numbers. The
model is described by a package and runs unchanged. Beside our worker stands the hand-written aiokafka loop;
with `--harness`, the outside harness of `peers.py`, its Kafka Streams and Java loop too: their scorer knows
one job alone, so `crayfish/Scorer.java` stands in for it and everything else is theirs.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson
from contenders import AIOKAFKA, HERE, OURS, Contender, run_once
from job import DEVICES, EventSpec
from latency import add_latency_options, as_json, measure
from report import OUT, Json, document, machine_sentence, table, write
from run import latency_table, throughput_table
from topics import fill, new_name, open_broker

from farshore.streams.packages.writer import write_package

INPUTS = 784
KEPT = 500
THRESHOLD = 5.3  # of the greatest output: about one event in a thousand
PUBLISHED = (
    ("Kafka Streams, ONNX, one scorer", "1,619–1,911"),
    ("Flink, ONNX, one scorer", "1,029–1,087"),
    ("Spark Structured Streaming, ONNX, one scorer", "259"),
    ("Ray, ONNX, one scorer", "119"),
)


def markdown(found: Json) -> str:
    """Throughput, latency, and the published figures, which were taken on other hardware."""
    asked, results = found["parameters"], found["results"]
    ours = results["throughput"][OURS.name]
    rows = max(run["more"]["batch_rows_mean"] for run in ours)
    limit = ours[0]["more"]["run_rows_max"]
    return (
        throughput_table(results["throughput"])
        + f"\nMedians (least–most) of {asked['runs']} alternating runs over {asked['events']:,} events of "
        f"{asked['event_bytes']:,} bytes. Farshore took {rows:,.0f} events at a time and ran the model with "
        f"at most {limit:,.0f}, as measured at its start.\n\n"
        + latency_table(results["latency"])
        + f"\nMilliseconds from producer to result, {asked['runs']} runs of {asked['seconds']:g} s. "
        f"{machine_sentence(found['machine'])}\n\n"
        + table(["published (EDBT 2024, batches of one, their hardware)", "events/s"], PUBLISHED)
    )


def values() -> list[bytes]:
    """Events as JSON, without the device: random 28x28 inputs, as Crayfish has them, in float32's digits."""
    rows = np.random.default_rng(1).random(size=(KEPT, INPUTS), dtype=np.float32)
    return [
        b'{"device":"camera-%d","time":%d,"readings":%b}'
        % (number % DEVICES, 1_690_000_000_000 + number, orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY))
        for number, row in enumerate(rows)
    ]


def events(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each."""
    kept = values()
    for number in range(count):
        yield b"camera-%d" % (number % DEVICES), kept[number % KEPT]


def make_package(folder: Path, model: Path) -> Path:
    """The model as it is, scored by its greatest output."""
    return write_package(
        folder,
        model.read_bytes(),
        {
            "format": 1,
            "name": "crayfish-ffnn",
            "version": "1",
            "features": [f"p{number}" for number in range(INPUTS)],
            "input": {"name": "input", "dtype": "float32", "shape": ["batch", 1, INPUTS]},
            "score": {"output": "output", "rule": "max"},
            "threshold": THRESHOLD,
        },
    )


def java_contenders(harness: Path, folder: Path) -> list[Contender]:
    """The harness's Java peers with our scorer of this job, compiled into `folder`."""
    sources, library = harness / "src/main/java/bench", harness / "target/lib"
    if not library.is_dir():
        raise SystemExit(
            f"{library} is missing: --harness must be the harness's folder with its Java peers built"
        )
    for source in [*sources.glob("*.java"), HERE / "crayfish/Scorer.java"]:
        shutil.copy(source, folder / source.name)
    subprocess.run(
        ["javac", "-d", str(folder / "classes"), "-cp", f"{library}/*", *map(str, folder.glob("*.java"))],
        check=True,
    )
    classes = os.pathsep.join([str(folder / "classes"), f"{library}/*"])
    java = ("java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes)
    return [
        Contender("Java loop", (*java, "bench.PlainLoop")),
        Contender("Kafka Streams, batches", (*java, "bench.Streams")),
        Contender("Kafka Streams, one event at a time", (*java, "bench.Streams"), None, {"BATCH": "1"}),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--harness", type=Path)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--runs", type=int, default=3)
    add_latency_options(parser, rates="500,2000", seconds=15.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if not options.model.is_file():
        raise SystemExit(f"{options.model} is missing: give Crayfish's model-ffnn.onnx")
    rates = [int(rate) for rate in options.rates.split(",") if rate]
    throughput: dict[str, list[Json]] = {}
    latency: dict[str, dict[str, list[Json]]] = {}
    with tempfile.TemporaryDirectory() as scratch, open_broker() as broker:
        package = make_package(Path(scratch) / "package", options.model)
        contenders = [OURS, AIOKAFKA]
        if options.harness is not None:
            folder = Path(scratch) / "java"
            folder.mkdir()
            contenders += java_contenders(options.harness.resolve(), folder)
        in_topic = new_name("in")
        asyncio.run(fill(broker.bootstrap, in_topic, events(options.events)))
        for run in range(options.runs):
            for contender in contenders:
                result = run_once(
                    contender, broker.bootstrap, in_topic, package, options.events, by_source=False
                )
                kept = {name: value for name, value in asdict(result).items() if name != "memory"}
                throughput.setdefault(contender.name, []).append(kept)
                print(f"run {run + 1} {contender.name}: {result.events_per_second:,.0f} events/s", flush=True)
            for rate in rates:
                for contender in contenders:
                    took = measure(
                        contender,
                        broker.bootstrap,
                        package,
                        rate,
                        spec=EventSpec(),
                        seconds=options.seconds,
                        warm_up_seconds=options.warm_up,
                        values=values(),
                    )
                    by_rate = latency.setdefault(contender.name, {})
                    by_rate.setdefault(str(rate), []).append(as_json(took))
                    print(
                        f"run {run + 1} {contender.name} at {rate:,}/s: p99 {took.p99_ms:.1f} ms", flush=True
                    )
    asked = {
        "events": options.events,
        "event_bytes": len(values()[0]),
        "runs": options.runs,
        "seconds": options.seconds,
    }
    write(document("crayfish", asked, {"throughput": throughput, "latency": latency}), markdown, options.out)


if __name__ == "__main__":
    main()
