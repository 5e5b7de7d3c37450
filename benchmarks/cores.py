"""What a second process brings, what the broker takes, and what a second thread of ONNX Runtime does.

    python benchmarks/cores.py [--events N] [--runs N] [--processes 1,2] [--out FOLDER]

The workers are `farshore score --processes N` as shipped, over one backlog. The window that is measured
begins when all processes are members of the group and ends with 95 % of the results; counted in it are the
results, the CPU seconds of the workers and those of the embedded broker (with FARSHORE_KAFKA_BOOTSTRAP they
are not known). Threads are measured in memory, on the job's model and on a wide one.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from contenders import stop
from job import PARTITIONS, EventSpec, make_package
from ours import settings_for
from report import OUT, Json, document, machine_sentence, spread, table, write
from topics import Broker, delete_topics, fill_with, make_topic, new_name, open_broker

from farshore.streams.packages.batchsize import measure_batch_size
from farshore.streams.packages.loader import load_package

WORKING = "is working as a member of group"
LOOK_SECONDS = 0.05
START_SECONDS_MAX = 120.0
END_SHARE = 0.95
WINDOW_SHARE_MIN = 0.2
WIDE = (1_024, 2_048)  # features, hidden nodes
THREADS = (1, 2)
DURABLE = ", every batch flushed to disk"
TRY_SECONDS = 0.5


def markdown(found: Json) -> str:
    """Processes, then threads."""
    results = found["results"]
    head = ["processes", "events/s", "cores: workers", "cores: broker", "events per worker's CPU second"]
    fields = (
        ("events_per_second", 0),
        ("worker_cores", 2),
        ("broker_cores", 2),
        ("events_per_cpu_second", 0),
    )
    rows = [
        [count, *(spread([run[field] for run in runs], digits) for field, digits in fields)]
        for count, runs in results["processes"].items()
    ]
    threads = [
        [
            model,
            count,
            *(spread([run[field] for run in runs], 2) for field in ("wall_us", "cpu_us")),
            f"{runs[0]['rows']:,}",
        ]
        for model, by_count in results["threads"].items()
        for count, runs in by_count.items()
    ]
    asked = found["parameters"]
    return (
        table(head, rows)
        + f"\nMedians (least–most) of {asked['runs']} alternating runs over {asked['events']:,} events, the "
        "broker on the same machine.\n\n"
        + table(["model", "ONNX threads", "µs a row by the clock", "CPU µs a row", "rows of a run"], threads)
        + f"\nIn memory. {machine_sentence(found['machine'])}\n"
    )


def run_workers(
    broker: Broker, in_topic: str, package: Path, events: int, processes: int, *, durable: bool
) -> Json:
    """One pass over the backlog by `processes` workers; `durable` leaves it to them to make the output topic.

    A worker asks for `flush.messages=1` where there is one broker: acknowledged then means on disk.
    """
    out_topic = new_name("out")
    if not durable:
        asyncio.run(make_topic(broker.bootstrap, out_topic, output=True))
    values = settings_for(broker.bootstrap, in_topic, out_topic).model_dump(
        exclude_none=True, exclude_unset=True
    )
    environment = {f"FARSHORE_{name.upper()}": str(value) for name, value in values.items()}
    environment |= {"FARSHORE_MODEL": str(package), "FARSHORE_METRICS_PORT": "0"}
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "farshore.agents.commands", "score", "--processes", str(processes)]
        workers = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, text=True)
        try:
            _await_members(workers, Path(log.name), processes)
            measured = asyncio.run(_window(broker, workers.pid, out_topic, events))
        finally:
            stop(workers)
    asyncio.run(delete_topics(broker.bootstrap, out_topic))
    return measured


def _await_members(workers: "subprocess.Popen[str]", log: Path, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while log.read_text().count(WORKING) < count:
        if workers.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the workers did not start:\n{log.read_text()}")
        time.sleep(LOOK_SECONDS)


async def _window(broker: Broker, workers: int, out_topic: str, events: int) -> Json:
    parts = [TopicPartition(out_topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
    await consumer.start()
    try:

        async def look() -> tuple[float, int, float, float]:
            done = sum((await consumer.end_offsets(parts)).values())
            return (
                time.monotonic(),
                done,
                _cpu(workers),
                _cpu(broker.process.pid if broker.process is not None else None),
            )

        first = last = await look()
        deadline = first[0] + START_SECONDS_MAX
        while last[1] < events * END_SHARE:
            await asyncio.sleep(LOOK_SECONDS)
            last = await look()
            if last[0] > deadline:
                raise SystemExit(f"{last[1]:,} of {events:,} results after {START_SECONDS_MAX:g} s")
    finally:
        await consumer.stop()
    seconds, results, worker_cpu, broker_cpu = (end - begin for begin, end in zip(first, last, strict=True))
    if results < events * WINDOW_SHARE_MIN:
        raise SystemExit(f"only {results:,} events were left once all had joined: give more --events")
    return {
        "events": results,
        "events_per_second": results / seconds,
        "events_per_cpu_second": results / worker_cpu,
        "worker_cores": worker_cpu / seconds,
        "broker_cores": broker_cpu / seconds,
    }


def _cpu(pid: int | None) -> float:
    if pid is None:
        return 0.0
    root = psutil.Process(pid)
    return sum(sum(part.cpu_times()[:2]) for part in (root, *root.children(recursive=True)))


def measure_threads(folder: Path, features: int, hidden: Sequence[int], threads: int) -> Json:
    """One model on so many threads, at its own best batch size."""
    package = load_package(
        make_package(folder, features, hidden) if not folder.exists() else folder, intra_op_threads=threads
    )
    score = package.scorer.score
    rows = measure_batch_size(package.manifest, score, rows_max=2_000).rows
    matrix = np.random.default_rng(1).normal(size=(rows, features)).astype(np.float32)
    wall: list[float] = []
    cpu_begin, begin = time.process_time(), time.perf_counter()
    while not wall or time.perf_counter() - begin < TRY_SECONDS:
        before = time.perf_counter()
        score(matrix)
        wall.append(time.perf_counter() - before)
    cpu = (time.process_time() - cpu_begin) / len(wall)
    return {"rows": rows, "wall_us": statistics.median(wall) / rows * 1e6, "cpu_us": cpu / rows * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    processes: dict[str, list[Json]] = {}
    threads: dict[str, dict[str, list[Json]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        models = {
            "the job's autoencoder": (Path(scratch) / "package", 16, (32, 8, 32)),
            f"autoencoder of {WIDE[0]:,} features, {WIDE[1]:,} nodes wide": (
                Path(scratch) / "wide",
                WIDE[0],
                WIDE[1:],
            ),
        }
        for _ in range(options.runs):
            for name, (folder, features, hidden) in models.items():
                for count in THREADS:
                    found = measure_threads(folder, features, hidden, count)
                    threads.setdefault(name, {}).setdefault(str(count), []).append(found)
        counts = [int(count) for count in options.processes.split(",") if count]
        if counts:
            with open_broker() as broker:
                in_topic = new_name("in")
                fill_with(broker.bootstrap, in_topic, EventSpec(), options.events)
                for _ in range(options.runs):
                    for count, durable in [*((count, False) for count in counts), (1, True)]:
                        run = run_workers(
                            broker,
                            in_topic,
                            Path(scratch) / "package",
                            options.events,
                            count,
                            durable=durable,
                        )
                        name = f"{count}{DURABLE if durable else ''}"
                        processes.setdefault(name, []).append(run)
                        print(f"{name}: {run['events_per_second']:,.0f} events/s", flush=True)
    asked = {"events": options.events, "runs": options.runs}
    write(document("cores", asked, {"processes": processes, "threads": threads}), markdown, options.out)


if __name__ == "__main__":
    main()
