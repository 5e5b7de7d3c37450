"""Throughput of our worker beside its rivals, over the same topic, in turn, in one run.

    python benchmarks/run.py [--events N] [--runs N] [--out FOLDER]

Starts the embedded broker (or uses FARSHORE_KAFKA_BOOTSTRAP), fills a topic, lets each contender take its
turn `--runs` times on a fresh output topic, and writes a table as Markdown and JSON. Each run's output is
counted: a contender that lost an event is reported, not ranked.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from job import PARTITIONS, events, make_package

from farshore.local.broker import BrokerSettings, bootstrap_or_embedded

HERE = Path(__file__).resolve().parent
RUN_SECONDS_MAX = 300.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Contender:
    """A program and the most events it is given: a slow one would take all day."""

    name: str
    program: Path
    events_max: int | None = None


CONTENDERS = (
    Contender("farshore", HERE / "ours.py"),
    Contender("aiokafka loop, send_batch", HERE / "rivals" / "aiokafka_loop.py"),
    Contender("stock Faust", HERE / "rivals" / "stock_faust.py", 40_000),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one contender."""

    events: int
    events_per_second: float
    events_per_cpu_second: float
    resident_mb_max: float
    results_distinct: int


async def fill(bootstrap: str, topic: str, count: int) -> None:
    await make_topic(bootstrap, topic)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1 << 18)
    await producer.start()
    futures = []
    for start in range(0, count, 50_000):
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for number, (key, value) in enumerate(events(min(50_000, count - start), seed=start + 1)):
            part = number % PARTITIONS
            if batches[part].append(timestamp=None, key=key, value=value) is None:
                futures.append(await producer.send_batch(batches[part], topic, partition=part))
                batches[part] = producer.create_batch()
                batches[part].append(timestamp=None, key=key, value=value)
        for part, batch in enumerate(batches):
            futures.append(await producer.send_batch(batch, topic, partition=part))
    await asyncio.gather(*futures)
    await producer.stop()


async def make_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()


async def count_results(bootstrap: str, topic: str) -> int:
    """Results by distinct source position."""
    parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign(parts)
    ends = await consumer.end_offsets(parts)
    found: set[tuple[int, int]] = set()
    while any([await consumer.position(part) < ends[part] for part in parts]):
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                source = json.loads(record.value)["source"]
                found.add((source["partition"], source["offset"]))
    await consumer.stop()
    return len(found)


def run_once(contender: Contender, bootstrap: str, in_topic: str, package: Path, count: int) -> Result:
    out_topic = f"bench.{time.time_ns()}"
    uvloop.run(make_topic(bootstrap, out_topic))
    count = min(count, contender.events_max or count)
    task = {"BOOTSTRAP": bootstrap, "IN_TOPIC": in_topic, "OUT_TOPIC": out_topic, "PACKAGE": str(package)}
    process = subprocess.Popen(
        [sys.executable, contender.program],
        cwd=HERE,
        env={**os.environ, **task, "N": str(count), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    resident, deadline = 0.0, time.monotonic() + RUN_SECONDS_MAX
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            resident = max(resident, psutil.Process(process.pid).memory_info().rss / 2**20)
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(LOOK_SECONDS)
    assert process.stdout is not None
    lines = [line for line in process.stdout.read().splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{contender.name} printed no result")
    report = json.loads(lines[-1])
    return Result(
        events=report["events"],
        events_per_second=report["events"] / report["seconds"],
        events_per_cpu_second=report["events"] / report["cpu_seconds"],
        resident_mb_max=resident,
        results_distinct=uvloop.run(count_results(bootstrap, out_topic)),
    )


def spread(results: Sequence[Result], field: str) -> str:
    values = [float(getattr(result, field)) for result in results]
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def table(results: dict[str, list[Result]]) -> str:
    lines = [
        "| contender | events/s | events per CPU second | resident MB | results |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, runs in results.items():
        complete = "complete" if all(run.results_distinct >= run.events for run in runs) else "INCOMPLETE"
        cells = [
            spread(runs, field) for field in ("events_per_second", "events_per_cpu_second", "resident_mb_max")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {complete} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Result]] = {contender.name: [] for contender in CONTENDERS}
    with (
        tempfile.TemporaryDirectory() as scratch,
        bootstrap_or_embedded(BrokerSettings(heap_mb=1024), print) as bootstrap,
    ):
        package = make_package(Path(scratch) / "package")
        in_topic = f"bench.{time.time_ns()}.in"
        print(f"filling {in_topic} with {options.events:,} events", flush=True)
        uvloop.run(fill(bootstrap, in_topic, options.events))
        for run in range(options.runs):
            # In turn, so that a drift of the machine touches every contender.
            for contender in CONTENDERS:
                result = run_once(contender, bootstrap, in_topic, package, options.events)
                results[contender.name].append(result)
                print(f"run {run + 1} {contender.name}: {result.events_per_second:,.0f} events/s", flush=True)
    written = table(results)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    (options.out / "throughput.md").write_text(
        f"{written}\nMedians (least–most) of {options.runs} runs; {machine}.\n"
    )
    plain = {name: [asdict(run) for run in runs] for name, runs in results.items()}
    (options.out / "throughput.json").write_text(json.dumps(plain, indent=1))
    print(written)


if __name__ == "__main__":
    main()
