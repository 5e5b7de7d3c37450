"""Topics made and checked at start: what is missing is created, what is wrong is refused by name.

Never changed behind an owner's back: cleanup policy and sizes of a topic that exists. Extended when needed:
the number of partitions of the topics farshore writes, so that every input partition has its own there.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError, for_code

from ..schemas.topics import Role, TopicSpec, topic_specs
from ..streams.transport.topic_ids import fetch_topic_ids
from .errors import BrokerAbsentError, BrokerRefusalError, TopicError, first_line, is_passing
from .settings import Settings
from .topic_review import (
    CARRY_EVENTS,
    MESSAGE_BYTES,
    FoundTopic,
    message_bytes_needed,
    problems_of,
    room_problems,
    warnings_of,
)

__all__ = ["TopicReport", "connect_admin", "ensure_topics", "examine_topics", "site_topics", "topic_ids"]

_REQUEST_TIMEOUT_MS = 15_000
_SETTLE_SECONDS_MAX = 20.0
_RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What is to be done for the topics to be as specified, and what stands in the way."""

    missing: tuple[TopicSpec, ...]
    to_extend: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def site_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """All topics of the site as the settings want them."""
    return topic_specs(
        settings.topics,
        partitions=settings.topic_partitions,
        replication=settings.topic_replication,
        in_sync_replicas_min=settings.topic_in_sync_replicas_min,
        event_bytes_max=settings.topic_event_bytes_max,
    )


@asynccontextmanager
async def connect_admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; raises BrokerAbsentError when none answers, BrokerRefusalError when one refuses."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
    except (KafkaConnectionError, OSError):
        await admin.close()
        raise BrokerAbsentError.at(bootstrap) from None
    except KafkaError as error:
        await admin.close()
        if is_passing(error):
            raise BrokerAbsentError(f"no Kafka broker answers at {bootstrap}: {first_line(error)}") from None
        raise BrokerRefusalError(f"Kafka at {bootstrap} refuses this client: {first_line(error)}") from None
    try:
        yield admin
    finally:
        await admin.close()


async def ensure_topics(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], *, anomaly_bytes_max: int = 0
) -> TopicReport:
    """Create what is missing, extend what is short, refuse what is wrong with TopicError.

    Returns what was found before.
    """
    report = await examine_topics(admin, specs, anomaly_bytes_max=anomaly_bytes_max)
    if report.problems:
        raise TopicError("; ".join(report.problems))
    if report.missing:
        await _create(admin, report.missing)
    if report.to_extend:
        await _extend(admin, report.to_extend)
    if report.missing or report.to_extend:
        await _await_settled(admin, specs)
    return report


async def examine_topics(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], *, anomaly_bytes_max: int = 0
) -> TopicReport:
    """Compare what is there with `specs`, changing nothing; the store must take `anomaly_bytes_max`."""
    found = await _found_topics(admin, [spec.name for spec in specs])
    by_role = {spec.role: spec for spec in specs}
    events = found.get(by_role[Role.EVENTS].name)
    wanted = {role: _wanted_partitions(role, by_role, found) for role in _PARTITIONED}
    problems: list[str] = []
    warnings: list[str] = []
    to_extend: list[tuple[str, int]] = []
    missing: list[TopicSpec] = []
    for spec in specs:
        topic, partitions = found.get(spec.name), wanted.get(spec.role, 0)
        if topic is None:
            made = _fitted(spec, partitions, events)
            missing.append(made)
            config = made.config
        else:
            config = topic.config
            problems += problems_of(spec, topic)
            warnings += warnings_of(spec, topic)
            if topic.partitions < partitions:
                to_extend.append((spec.name, partitions))
        problems += room_problems(spec, config, events, anomaly_bytes_max)
    return TopicReport(tuple(missing), tuple(to_extend), tuple(problems), tuple(warnings))


_PARTITIONED = frozenset({Role.SCORED, Role.ANOMALIES, Role.DELIVERIES, Role.DEAD_LETTERS})


def _fitted(spec: TopicSpec, partitions: int, events: FoundTopic | None) -> TopicSpec:
    """A topic to be created as the events topic that is there needs it."""
    config = dict(spec.config)
    if events is not None and spec.role in CARRY_EVENTS:
        config[MESSAGE_BYTES] = str(max(message_bytes_needed(events), int(config[MESSAGE_BYTES])))
    return replace(spec, partitions=max(partitions, spec.partitions), config=config)


def _wanted_partitions(role: Role, specs: Mapping[Role, TopicSpec], found: Mapping[str, FoundTopic]) -> int:
    """As many as the topics have whose records' outcome stands here, on the same partition number."""
    sources = [Role.EVENTS, Role.ANOMALIES] if role is Role.DELIVERIES else [Role.EVENTS]
    return max(
        found[specs[source].name].partitions if specs[source].name in found else specs[source].partitions
        for source in sources
    )


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    response = await admin.create_topics(
        [
            NewTopic(
                name=spec.name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication,
                topic_configs=spec.creation_config,
            )
            for spec in specs
        ]
    )
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        # Another worker of the same site may have been quicker.
        if code and error.__name__ != "TopicAlreadyExistsError":
            message = next((part for part in rest if part), error.__name__)
            raise TopicError(f"topic {name!r} cannot be created: {message}")


async def _extend(admin: AIOKafkaAdminClient, to_extend: Sequence[tuple[str, int]]) -> None:
    try:
        await admin.create_partitions({name: NewPartitions(count) for name, count in to_extend})
    except KafkaError as error:
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await _described(admin)}
        short = [name for name, count in to_extend if counts.get(name, 0) < count]
        # None is short when another worker of the same site was quicker.
        if short:
            raise TopicError(f"topic {short[0]!r} cannot be extended: {first_line(error)}") from None


async def _found_topics(admin: AIOKafkaAdminClient, names: Collection[str]) -> dict[str, FoundTopic]:
    """What the broker says of those of `names` that are there."""
    deadline = monotonic() + _SETTLE_SECONDS_MAX
    while True:
        try:
            return await _found_now(admin, names)
        except UnknownTopicOrPartitionError:
            # One that was just made, or is just being deleted: listed already, or still.
            if monotonic() > deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def _found_now(admin: AIOKafkaAdminClient, names: Collection[str]) -> dict[str, FoundTopic]:
    described = {topic["topic"]: topic["partitions"] for topic in await _described(admin)}
    present = [name for name in names if name in described]
    configs = await _configs(admin, present)
    return {
        name: FoundTopic(
            len(described[name]),
            min((len(part["replicas"]) for part in described[name]), default=0),
            configs[name],
        )
        for name in present
    }


async def _described(admin: AIOKafkaAdminClient) -> list[dict[str, Any]]:
    # All topics: to ask for one by name makes it, on a broker that creates topics by itself.
    names = await admin.list_topics()
    described: list[dict[str, Any]] = await admin.describe_topics(names) if names else []
    return described


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    )
    configs = {}
    for response in responses:
        for code, message, _, name, entries, *_ in response.resources:
            if code:
                raise for_code(code)(f"the settings of topic {name!r} cannot be read: {message}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def _await_settled(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    """Wait until the new topics have leaders: a producer that asks too early only gets errors."""
    names = [spec.name for spec in specs]
    try:
        async with asyncio.timeout(_SETTLE_SECONDS_MAX):
            while True:
                described = await admin.describe_topics(names)
                for topic in described:
                    error = for_code(topic["error_code"])
                    if topic["error_code"] and not error.retriable:
                        raise error(f"topic {topic['topic']!r} cannot be used")
                if all(
                    topic["partitions"] and all(part["leader"] >= 0 for part in topic["partitions"])
                    for topic in described
                ):
                    return
                await asyncio.sleep(_RETRY_SECONDS)
    except TimeoutError:
        raise TopicError(f"the new topics have no leaders after {_SETTLE_SECONDS_MAX:g} s") from None


async def topic_ids(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, UUID]:
    """Kafka's ids of those of `topics` that are there, where the broker gives ids."""
    return await fetch_topic_ids(admin._client, topics)  # noqa: SLF001  the admin client has no call for it
