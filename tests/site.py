"""One farshore site of its own for a test: topics and groups under a prefix, workers as real processes.

Everything waits by looking again, within generous bounds; nothing relies on how fast this machine is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from farshore.agents.admin import connect_admin, ensure_topics, site_topics
from farshore.agents.errors import FarshoreError
from farshore.agents.receipts import SiteCount, count_site
from farshore.agents.settings import PREFIX, Settings
from farshore.agents.topic_reader import open_reader
from farshore.local.eventhubs import EventHubsStandIn

from .site_events import FEATURES, EventSource, Load, anomaly_record, make_package
from .site_hub import read_hub, stored_in
from .site_worker import WAIT_SECONDS_MAX, WORKING, Worker, until

__all__ = [
    "FEATURES",
    "WORKING",
    "EventSource",
    "Load",
    "Site",
    "Worker",
    "anomaly_record",
    "make_package",
    "open_site",
    "stored_in",
    "until",
    "values_of",
]


@dataclass
class Site:
    """Topics and groups under `prefix` on the broker at `bootstrap`; `more` are further settings,
    `surroundings` further variables of the workers' environment."""

    bootstrap: str
    prefix: str
    folder: Path
    package: Path
    more: Mapping[str, str] = field(default_factory=dict)
    surroundings: Mapping[str, str] = field(default_factory=dict)
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
        named = {PREFIX + name.upper(): value for name, value in values.items()}
        return clean | dict(self.surroundings) | named

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

    async def run(
        self, *arguments: str, seconds_max: float = WAIT_SECONDS_MAX, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """A command of the site to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "farshore.agents.commands", *arguments],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=seconds_max,
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

    async def publish_anomalies(
        self,
        numbers: range,
        readings: int = 4,
        severity: Callable[[int], str] = lambda _number: "high",
        found_ms: int | None = None,
        stamp_ms: int | None = None,
    ) -> None:
        """Anomalies straight into the store, as a scorer writes them; number n has id n and offset n.

        `stamp_ms` is their time in the log, where the topic takes that of its producers.
        """
        topic, partitions = self.settings.topic_anomalies, self.settings.topic_partitions
        async with self.producer(enable_idempotence=True) as producer:
            sent = []
            for number in numbers:
                anomaly = anomaly_record(number, readings) | {"severity": severity(number)}
                anomaly["source"]["topic"] = self.settings.topic_events
                anomaly["detected_at"] = found_ms or anomaly["detected_at"]
                value, key = orjson.dumps(anomaly), anomaly["id"].encode()
                sent.append(
                    await producer.send(
                        topic, value, key=key, partition=number % partitions, timestamp_ms=stamp_ms
                    )
                )
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
        """The ids of a stable group's members; empty while it rebalances or has no coordinator yet."""
        try:
            async with self.admin() as admin:
                (answer,) = await admin.describe_consumer_groups([group])
        except GroupCoordinatorNotAvailableError:
            return []  # the first group of a broker
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
            lambda: "everything scored; logs:\n" + self.logs(),
            seconds_max,
        )

    async def settled(self, seconds_max: float = WAIT_SECONDS_MAX) -> SiteCount:
        """Wait until scorer and bridge have committed everything; returns the count."""
        settings = self.settings
        await self.scored(seconds_max)
        await until(
            lambda: self.caught_up(settings.bridge_group, settings.topic_anomalies),
            lambda: "everything delivered; logs:\n" + self.logs(),
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


@asynccontextmanager
async def open_site(
    bootstrap: str, prefix: str, folder: Path, package: Path, **more: str
) -> AsyncIterator[Site]:
    """A site with its own Event Hubs stand-in and topics; workers end with it."""
    async with EventHubsStandIn(hub="anomalies", partitions=4) as hub:
        site = Site(
            bootstrap, prefix, folder, package, more, hub=hub, connection_string=hub.connection_string
        )
        try:
            await site.make_topics()
            yield site
        finally:
            await asyncio.to_thread(site.end_workers)


def values_of(records: Iterable[ConsumerRecord]) -> list[dict[str, Any]]:
    """The JSON values of records."""
    return [orjson.loads(record.value) for record in records]
