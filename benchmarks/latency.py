"""Latency from producer to result at a fixed load: stamps travel in the keys, which every contender keeps.

The stamp is taken right before the event is handed to the producer; the probe, a process of its own, takes
the time at which it holds the result. `direct` is the probe on the input: the floor.
"""

import argparse
import asyncio
import multiprocessing
import time
from array import array
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from contenders import ENDLESS, Contender, stop
from job import PARTITIONS, EventSpec
from topics import delete_topics, make_topic, new_name

DRAIN_SECONDS = 5.0
FIRST_SECONDS_MAX = 60.0
WARM_UP_RATE = 100
BEAT_SECONDS = 0.001
VALUES_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from producer to result; `delivered` below 1 means that the contender cannot keep up."""

    sent_per_second: float
    delivered: float
    p50_ms: float
    p99_ms: float


def measure(
    contender: Contender | None,
    bootstrap: str,
    package: Path,
    rate: int,
    *,
    spec: EventSpec,
    seconds: float,
    warm_up_seconds: float,
    values: list[bytes] | None = None,
) -> Latency:
    """One contender at `rate` events a second; None is the floor. `values` replace the job's events."""
    prefix = new_name("latency")
    in_topic, out_topic = f"{prefix}.in", f"{prefix}.out"
    asyncio.run(make_topic(bootstrap, in_topic))
    asyncio.run(make_topic(bootstrap, out_topic, output=True))
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    receive, send = spawn.Pipe(duplex=False)
    watched = in_topic if contender is None else out_topic
    probe = spawn.Process(target=_probe, args=(bootstrap, watched, ready, done, send), daemon=True)
    probe.start()
    process = (
        None if contender is None else contender.started(bootstrap, in_topic, out_topic, package, ENDLESS)
    )
    try:
        sender = _Sender(bootstrap, in_topic, values or [value for _, value in spec.events(VALUES_KEPT)])
        deadline = time.monotonic() + FIRST_SECONDS_MAX
        while not ready.is_set():
            if time.monotonic() > deadline or (process is not None and process.poll() is not None):
                raise SystemExit(f"{contender and contender.name}: no first result")
            sender.offer(WARM_UP_RATE, 0.2)
        sender.offer(rate, warm_up_seconds)
        begin = _now_us()
        sent = sender.offer(rate, seconds)
        end = _now_us()
        time.sleep(DRAIN_SECONDS)
    finally:
        if process is not None:
            stop(process)
        done.set()
    stamps, latencies = receive.recv()
    probe.join()
    asyncio.run(delete_topics(bootstrap, prefix))
    found = latencies[(stamps >= begin) & (stamps < end)] / 1_000
    p50, p99 = np.percentile(found, [50, 99]) if len(found) else (float("inf"), float("inf"))
    return Latency(sent / seconds, min(1.0, len(found) / sent), float(p50), float(p99))


def add_latency_options(parser: argparse.ArgumentParser, *, rates: str, seconds: float) -> None:
    """`--rates`, `--seconds`, `--warm-up` with these defaults."""
    parser.add_argument("--rates", default=rates, help="events a second; empty for no latency")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each latency measurement")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds at that load before it")


def as_json(found: Latency) -> dict[str, float]:
    """For a document."""
    return asdict(found)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _probe(bootstrap: str, topic: str, ready: Event, done: Event, pipe: Connection) -> None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{topic}.probe", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    stamps, latencies = array("q"), array("q")
    while not done.is_set():
        message = consumer.poll(0.05)
        if message is None or message.error():
            continue
        stamp = int(message.key() or 0)
        latencies.append(_now_us() - stamp)
        stamps.append(stamp)
        if len(stamps) == 1:
            ready.set()
    pipe.send((np.array(stamps), np.array(latencies)))
    consumer.close()


class _Sender:
    """Sends at an even rate, a millisecond's share at a time, to the partitions in turn."""

    def __init__(self, bootstrap: str, topic: str, values: list[bytes]) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
        self._topic = topic
        self._values = values
        self._sent = 0

    def offer(self, rate: int, seconds: float) -> int:
        """Send for so long; returns how many."""
        begin, sent = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begin) < seconds:
            due = int(elapsed * rate)
            for number in range(self._sent, self._sent + due - sent):
                self._producer.produce(
                    self._topic,
                    self._values[number % len(self._values)],
                    b"%d" % _now_us(),
                    partition=number % PARTITIONS,
                )
            self._sent += due - sent
            sent = due
            self._producer.poll(0)
            time.sleep(BEAT_SECONDS)
        self._producer.flush()
        return sent
