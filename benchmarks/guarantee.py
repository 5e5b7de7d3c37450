"""Exactly-once beside at-least-once, in turn, in one run: throughput, and latency at a steady rate.

    python benchmarks/guarantee.py [--events N] [--runs N] [--rate N] [--seconds N]

Throughput is the job of `run.py`. Latency is from a producer's clock to a reader of committed records of
`scored`, both in this process; events come at `--rate` for `--seconds`. Only ratios and differences of one
run mean anything; the bounds are those of the mode's decision (ADR 18).
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from contenders import OURS, Contender, run_once, stop
from job import FEATURES, PARTITIONS, EventSpec, make_package
from report import OUT, Json, document, machine_sentence, spread, table, write
from topics import fill_with, make_topic, new_name, open_broker

MODES = ("at-least-once", "exactly-once")
THROUGHPUT_SHARE_MIN = 0.7
ADDED_P99_MS_MAX = 150.0
TICKS_A_SECOND = 100
WARM_UP_SECONDS = 3.0
BROKER_WARM_UP_SECONDS = 5.0
SILENCE_SECONDS_MAX = 60.0


def worker_in(mode: str) -> Contender:
    """Our worker with this guarantee."""
    return replace(OURS, environment={"FARSHORE_GUARANTEE": mode})


async def send_steadily(bootstrap: str, topic: str, rate: int, seconds: float) -> None:
    """`rate` events a second, stamped with the time of their sending."""
    each = max(1, rate // TICKS_A_SECOND)
    rows = np.random.default_rng(1).normal(size=(each, len(FEATURES))).round(4).tolist()
    readings = [dict(zip(FEATURES, row, strict=True)) for row in rows]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, max_batch_size=1 << 18)
    await producer.start()
    started = time.monotonic()
    for tick in range(int(seconds * TICKS_A_SECOND)):
        await asyncio.sleep(max(0.0, started + tick / TICKS_A_SECOND - time.monotonic()))
        now_ms = time.time_ns() // 1_000_000
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for index, values in enumerate(readings):
            value = orjson.dumps({"device": f"pump-{index}", "time": now_ms, "readings": values})
            batches[index % PARTITIONS].append(timestamp=None, key=None, value=value)
        for part, batch in enumerate(batches):
            if batch.record_count():
                await producer.send_batch(batch, topic, partition=part)
    await producer.flush()
    await producer.stop()


async def latencies_ms(bootstrap: str, topic: str, first_ms: list[int], count: int) -> list[float]:
    """Of `count` results whose events are not older than `first_ms[0]`, once that is known."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=5,
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    found: list[float] = []
    seen, heard_at = 0, time.monotonic()
    while seen < count and time.monotonic() - heard_at < SILENCE_SECONDS_MAX:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now_ms = time.time_ns() / 1e6
            heard_at = time.monotonic()
            seen += len(records)
            times = [orjson.loads(record.value)["time"] for record in records]
            found += [now_ms - sent_ms for sent_ms in times if first_ms and sent_ms >= first_ms[0]]
    await consumer.stop()
    return found


async def latency_run(bootstrap: str, mode: str, package: Path, rate: int, seconds: float) -> list[float]:
    """A worker of its own on topics of its own; what comes in the first seconds is warm-up."""
    in_topic, out_topic = new_name("in"), new_name("out")
    await make_topic(bootstrap, in_topic)
    await make_topic(bootstrap, out_topic, output=True)
    count = max(1, rate // TICKS_A_SECOND) * int((seconds + WARM_UP_SECONDS) * TICKS_A_SECOND)
    worker = worker_in(mode).started(bootstrap, in_topic, out_topic, package, count)
    first_ms: list[int] = []
    try:
        reading = asyncio.create_task(latencies_ms(bootstrap, out_topic, first_ms, count))
        await asyncio.sleep(WARM_UP_SECONDS)
        sending = asyncio.create_task(send_steadily(bootstrap, in_topic, rate, seconds + WARM_UP_SECONDS))
        await asyncio.sleep(WARM_UP_SECONDS)
        first_ms.append(time.time_ns() // 1_000_000)
        await sending
        return await reading
    finally:
        await asyncio.to_thread(stop, worker)


def markdown(found: Json) -> str:
    """Both modes, and what the mode was promised to cost at most."""
    results, asked = found["results"], found["parameters"]
    rows = [
        (
            mode,
            spread(results[mode]["events_per_second"]),
            spread(results[mode]["events_per_cpu_second"]),
            f"{spread(results[mode]['p50_ms'], 1)} · {spread(results[mode]['p99_ms'], 1)}",
        )
        for mode in MODES
    ]
    head = ("guarantee", "events/s", "events per CPU second", f"p50 · p99 ms at {asked['rate']:,}/s")
    how = (
        f"Medians (least–most) of {asked['runs']} runs in turn: {asked['events']:,} events, then "
        f"{asked['seconds']:g} s at {asked['rate']:,} a second, to a reader of committed records. "
    )
    return f"{table(head, rows)}\n{verdicts(results)}\n{how}{machine_sentence(found['machine'])}\n"


def verdicts(results: Json) -> str:
    """The bounds, and whether they hold."""
    low, high = (results[mode] for mode in MODES)
    share = _median(high["events_per_second"]) / _median(low["events_per_second"])
    added_ms = _median(high["p99_ms"]) - _median(low["p99_ms"])
    rows = (
        (
            f"throughput: at least {THROUGHPUT_SHARE_MIN:g} of at-least-once",
            f"{share:.2f}",
            _verdict(share >= THROUGHPUT_SHARE_MIN),
        ),
        (
            f"added p99: less than {ADDED_P99_MS_MAX:g} ms",
            f"{added_ms:.0f} ms",
            _verdict(added_ms < ADDED_P99_MS_MAX),
        ),
    )
    return table(("bound of exactly-once", "in this run", ""), rows)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _verdict(holds: bool) -> str:
    return "holds" if holds else "**missed**"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    figures = ("events_per_second", "events_per_cpu_second", "p50_ms", "p99_ms")
    results: dict[str, dict[str, list[float]]] = {mode: {name: [] for name in figures} for mode in MODES}
    with tempfile.TemporaryDirectory() as scratch, open_broker() as broker:
        bootstrap = broker.bootstrap
        package = make_package(Path(scratch) / "package")
        in_topic = new_name("in")
        fill_with(bootstrap, in_topic, EventSpec(), options.events)
        for mode in MODES:
            # Not measured: the broker compiles what a mode asks of it in its first seconds.
            uvloop.run(latency_run(bootstrap, mode, package, options.rate, BROKER_WARM_UP_SECONDS))
        for _ in range(options.runs):
            # In turn, so that a drift of the machine touches both.
            for mode in MODES:
                run = run_once(worker_in(mode), bootstrap, in_topic, package, options.events)
                if not run.complete:
                    raise SystemExit(f"{mode}: results are missing")
                waits = uvloop.run(latency_run(bootstrap, mode, package, options.rate, options.seconds))
                if not waits:
                    raise SystemExit(f"{mode}: no result came within {SILENCE_SECONDS_MAX:g} s")
                p50, p99 = np.percentile(waits, [50, 99]).tolist()
                each = (run.events_per_second, run.events_per_cpu_second, p50, p99)
                for name, value in zip(figures, each, strict=True):
                    results[mode][name].append(value)
                print(
                    f"{mode}: {run.events_per_second:,.0f} events/s, "
                    f"{options.rate:,} a second: p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                    flush=True,
                )
    asked = {name: getattr(options, name) for name in ("events", "runs", "rate", "seconds")}
    write(document("guarantee", asked, results), markdown, options.out)


if __name__ == "__main__":
    main()
