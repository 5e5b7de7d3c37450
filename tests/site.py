"""One farshore site of its own for a test: topics and groups under a prefix, workers as real processes.

Everything waits by looking again, within generous bounds; nothing relies on how fast this machine is.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from azure.eventhub.aio import EventHubConsumerClient
from prometheus_client.parser import text_string_to_metric_families

from farshore.agents.admin import connect_admin, ensure_topics, site_topics
from farshore.agents.errors import FarshoreError
from farshore.agents.receipts import SiteCount, count_site
from farshore.agents.settings import PREFIX, Settings
from farshore.agents.topic_reader import open_reader
from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.values import Described
from farshore.local.sample import write_sample_package

FEATURES = ("flow", "pressure", "temperature", "vibration")
WAIT_SECONDS_MAX = 90.0
LOOK_SECONDS = 0.2
DATA_SECTION = 0x75  # of an AMQP message
WORKING = "is working as a member of group"


async def until(
    look: Callable[[], Awaitable[bool] | bool], what: str, seconds_max: float = WAIT_SECONDS_MAX
) -> None:
    """Wait until `look` says yes."""
    deadline = time.monotonic() + seconds_max
    while True:
        answer = look()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, f"after {seconds_max:g} s: not yet {what}"
        await asyncio.sleep(LOOK_SECONDS)


def make_package(folder: Path) -> Path:
    """The sample model for FEATURES, fitted to normal rows around 0."""
    rows = np.random.default_rng(7).normal(size=(2_000, len(FEATURES)))
    return write_sample_package(folder, rows, FEATURES, name="sample", version="1")


def anomaly_record(number: int, readings: int = 4) -> dict[str, Any]:
    """A record of the store that is all made up but valid; some 20 bytes a reading and 400 more."""
    return {
        "id": f"{number:032x}",
        "site": "north",
        "device": f"pump-{number % 8}",
        "time": 1_700_000_000_000 + number,
        "score": 50.0,
        "threshold": 1.0,
        "severity": "high",
        "model": "sample@1",
        "model_digest": "sha256:" + "0" * 64,
        "contributions": None,
        "readings": {f"reading-{index:06}": 40.0 for index in range(readings)},
        "source": {"topic": "events", "partition": number % 4, "offset": number},
        "detected_at": 1_700_000_000_000,
    }


class EventSource:
    """Events of some devices, seeded; `anomaly_share` of them far outside of what is normal."""

    def __init__(self, seed: int = 1, devices: int = 12, anomaly_share: float = 0.03) -> None:
        self._random = np.random.default_rng(seed)
        self._devices = devices
        self._anomaly_share = anomaly_share
        self._made = 0

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """Key and value of the next events."""
        rows = self._random.normal(size=(count, len(FEATURES)))
        rows[self._random.random(count) < self._anomaly_share] += 40.0
        events = []
        for row in rows.tolist():
            device = f"pump-{self._made % self._devices}"
            value = {
                "device": device,
                "time": 1_700_000_000_000 + self._made,
                "readings": dict(zip(FEATURES, row, strict=True)),
            }
            events.append((device.encode(), orjson.dumps(value)))
            self._made += 1
        return events


class Worker:
    """One worker process; its log is a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log_path = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "farshore.agents.commands", *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        """Everything it has printed."""
        return self.log_path.read_text("utf-8", "replace")

    def lines(self, *levels: str) -> list[str]:
        """Log lines of these levels, without their time."""
        return [
            line.split(" ", 2)[-1]
            for line in self.log.splitlines()
            if any(f" {level} " in line for level in levels)
        ]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one metric now; 0 where it has none yet."""
        port = re.findall(r"metrics on port (\d+)", self.log)[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    async def stop(self, seconds_max: float = 10.0) -> float:
        """SIGTERM; returns the seconds it took and insists on exit code 0 within `seconds_max`."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = await self.ended(seconds_max)
        assert code == 0, f"exit code {code}:\n{self.log}"
        return time.monotonic() - started

    async def ended(self, seconds_max: float = WAIT_SECONDS_MAX) -> int:
        """The exit code, once there is one."""
        await until(lambda: not self.running, f"ended; its log:\n{self.log}", seconds_max)
        return int(self.process.returncode)

    async def working(self, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Wait until the worker says that it works."""

        def look() -> bool:
            assert self.running, f"ended with {self.process.returncode}:\n{self.log}"
            return WORKING in self.log

        await until(look, f"working; its log:\n{self.log}", seconds_max)


class Load:
    """Publishes events of a source until told to stop."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, source: EventSource, rate: int) -> None:
        self._producer = producer
        self._topic = topic
        self._source = source
        self._rate = rate
        self.stopping = False
        self.published = 0

    async def run(self) -> None:
        """One tenth of a second's events at a time."""
        while not self.stopping:
            events = self._source.take(self._rate // 10)
            sent = [await self._producer.send(self._topic, value, key=key) for key, value in events]
            await asyncio.gather(*sent)
            self.published += len(sent)
            await asyncio.sleep(0.1)


@dataclass
class Site:
    """Topics and groups under `prefix` on the broker at `bootstrap`; `more` are further settings."""

    bootstrap: str
    prefix: str
    folder: Path
    package: Path
    more: Mapping[str, str] = field(default_factory=dict)
    hub: EventHubsStandIn | None = None
    connection_string: str | None = None
    workers: list[Worker] = field(default_factory=list)

    @property
    def values(self) -> dict[str, str]:
        """Settings by field name."""
        topics = ("events", "scored", "anomalies", "deliveries", "audit", "dead_letters", "models")
        values = {
            "kafka_bootstrap": self.bootstrap,
            "site": "north",
            "model": str(self.package),
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
            "scorer_group": self.prefix + "scorer",
            "bridge_group": self.prefix + "bridge",
            "commit_interval_seconds": "0.3",
            "uplink_backoff_seconds_min": "0.2",
            "uplink_backoff_seconds_max": "1",
            **{f"topic_{name}": self.prefix + name.replace("_", "-") for name in topics},
        }
        if self.connection_string is not None:
            values["eventhub_connection_string"] = self.connection_string
        return values | dict(self.more)

    @property
    def settings(self) -> Settings:
        """The same as the workers have them."""
        return Settings(**self.values)  # type: ignore[arg-type]

    def environment(self, **more: str) -> dict[str, str]:
        """What a command of this site runs in."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        values = self.values | more
        return clean | {PREFIX + name.upper(): value for name, value in values.items()}

    def launch(self, command: str, *arguments: str, **more: str) -> Worker:
        """Start `score` or `bridge` and do not wait."""
        log = self.folder / f"{len(self.workers)}-{command}.log"
        worker = Worker([command, *arguments], self.environment(**more), log)
        self.workers.append(worker)
        return worker

    async def start(self, command: str, **more: str) -> Worker:
        """Start `score` or `bridge` and wait until it works."""
        worker = self.launch(command, **more)
        await worker.working()
        return worker

    async def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of the site to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "farshore.agents.commands", *arguments],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def end_workers(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            if worker.running:
                worker.kill()

    async def make_topics(self) -> None:
        """As a worker's start does."""
        async with self.admin() as admin:
            await ensure_topics(admin, site_topics(self.settings))

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """An admin client."""
        async with connect_admin(self.bootstrap) as admin:
            yield admin

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        """A plain producer of any application."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_request_size=16 * 1024 * 1024, **options
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def publish(
        self, events: Iterable[tuple[bytes | None, bytes | None]], partition: int | None = None
    ) -> None:
        """Events to the events topic, all acknowledged at the end."""
        async with self.producer(linger_ms=5, enable_idempotence=True) as producer:
            sent = [
                await producer.send(self.settings.topic_events, value, key=key, partition=partition)
                for key, value in events
            ]
            await asyncio.gather(*sent)

    @asynccontextmanager
    async def load(self, source: EventSource, events_per_second: int = 2_000) -> AsyncIterator[Load]:
        """Events without pause, through every outage of the broker; all acknowledged at the end."""
        async with self.producer(enable_idempotence=True) as producer:
            load = Load(producer, self.settings.topic_events, source, events_per_second)
            running = asyncio.create_task(load.run())
            try:
                yield load
            finally:
                load.stopping = True
                await running

    async def publish_anomalies(self, numbers: range, readings: int = 4) -> None:
        """Anomalies straight into the store, as a scorer writes them; number n has id n and offset n."""
        topic, partitions = self.settings.topic_anomalies, self.settings.topic_partitions
        async with self.producer(enable_idempotence=True) as producer:
            sent = []
            for number in numbers:
                anomaly = anomaly_record(number, readings)
                value, key = orjson.dumps(anomaly), anomaly["id"].encode()
                sent.append(await producer.send(topic, value, key=key, partition=number % partitions))
            await asyncio.gather(*sent)

    async def delivered(self, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Wait until the bridge has committed everything in the store."""
        settings = self.settings
        await until(
            lambda: self.caught_up(settings.bridge_group, settings.topic_anomalies),
            "everything delivered",
            seconds_max,
        )

    async def members(self, group: str) -> list[str]:
        """The ids of a stable group's members; empty while it rebalances."""
        async with self.admin() as admin:
            (answer,) = await admin.describe_consumer_groups([group])
        _, _, state, _, _, members, *_ = answer.groups[0]
        return sorted(member[0] for member in members) if state == "Stable" else []

    async def records(self, topic: str) -> list[ConsumerRecord]:
        """Every committed record of a topic of this site, by partition in offset order."""
        async with open_reader(self.bootstrap) as reader:
            found = [record async for group in reader.records(topic) for record in group]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def ends(self, topic: str) -> dict[int, int]:
        """Where each partition ends now."""
        async with open_reader(self.bootstrap) as reader:
            return {number: end for number, (_, end) in (await reader.bounds(topic)).items()}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's commit in each partition."""
        async with self.admin() as admin:
            answer = await admin.list_consumer_group_offsets(group)
        return {part.partition: found.offset for part, found in answer.items() if part.topic == topic}

    async def caught_up(self, group: str, topic: str) -> bool:
        """Whether the group has committed the end of every partition; a broker that is away: not yet."""
        try:
            ends, committed = await self.ends(topic), await self.committed(group, topic)
        except (KafkaError, FarshoreError, OSError):
            return False
        return all(committed.get(number, 0) >= end for number, end in ends.items())

    async def scored(self, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Wait until the scorer has committed everything there is."""
        settings = self.settings
        await until(
            lambda: self.caught_up(settings.scorer_group, settings.topic_events),
            "everything scored; logs:\n" + self.logs(),
            seconds_max,
        )

    async def settled(self, seconds_max: float = WAIT_SECONDS_MAX) -> SiteCount:
        """Wait until scorer and bridge have committed everything; returns the count."""
        settings = self.settings
        await self.scored(seconds_max)
        await until(
            lambda: self.caught_up(settings.bridge_group, settings.topic_anomalies),
            "everything delivered; logs:\n" + self.logs(),
            seconds_max,
        )
        return await count_site(settings)

    def logs(self) -> str:
        """The last lines of every worker."""
        return "\n".join(
            f"-- {worker.log_path.name}\n" + "\n".join(worker.log.splitlines()[-12:])
            for worker in self.workers
        )

    async def read_hub(self) -> list[Any]:
        """Everything stored in the hub, read back with the SDK; `partition_id` is set on each event."""
        assert self.hub is not None
        return await read_hub(self.hub)


def stored_in(hub: EventHubsStandIn) -> list[tuple[int, bytes]]:
    """Partition and body of everything in the hub's memory, in order: quicker than the SDK."""
    bodies: list[tuple[int, bytes]] = []
    for name, partition in hub.hub.partitions.items():
        for event in partition.read(0, 1_000_000):
            position = 0
            while position < len(event.data):
                section, position = decode_value(event.data, position)
                if isinstance(section, Described) and section.descriptor == DATA_SECTION:
                    assert isinstance(section.value, bytes)
                    bodies.append((int(name), section.value))
    return bodies


async def read_hub(hub: EventHubsStandIn) -> list[Any]:
    """Everything stored in `hub`, by partition in order."""
    expected = hub.stats().events
    events: list[Any] = []
    enough = asyncio.Event()

    async def take(context: Any, batch: list[Any]) -> None:
        for event in batch:
            event.partition_id = context.partition_id
            events.append(event)
        if len(events) >= expected:
            enough.set()

    client = EventHubConsumerClient.from_connection_string(hub.connection_string, "$Default")
    options = {"starting_position": "-1", "max_wait_time": 1, "max_batch_size": 1_000, "prefetch": 2_000}
    reading = asyncio.ensure_future(client.receive_batch(take, **options))
    try:
        if expected:
            async with asyncio.timeout(30):
                await enough.wait()
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await client.close()
    return sorted(events, key=lambda event: (event.partition_id, event.sequence_number))


@asynccontextmanager
async def open_site(
    bootstrap: str, prefix: str, folder: Path, package: Path, **more: str
) -> AsyncIterator[Site]:
    """A site with its own Event Hubs stand-in and topics; workers end with it."""
    async with EventHubsStandIn(hub="anomalies", partitions=4) as hub:
        site = Site(bootstrap, prefix, folder, package, more, hub, hub.connection_string)
        try:
            await site.make_topics()
            yield site
        finally:
            await asyncio.to_thread(site.end_workers)


def values_of(records: Iterable[ConsumerRecord]) -> list[dict[str, Any]]:
    """The JSON values of records."""
    return [orjson.loads(record.value) for record in records]
