"""Topics made and checked at start: what is missing is created, what is wrong is refused by name.

Never changed behind an owner's back: cleanup policy and sizes of a topic that exists. Extended when needed:
the number of partitions of the topics farshore writes, so that every input partition has its own there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from ..schemas.topics import Role, TopicSpec, topic_specs
from .errors import BrokerAbsentError, TopicError
from .settings import Settings

__all__ = ["TopicReport", "connect_admin", "ensure_topics", "examine_topics", "site_topics"]

_REQUEST_TIMEOUT_MS = 15_000
_SETTLE_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What is to be done for the topics to be as specified, and what stands in the way."""

    missing: tuple[TopicSpec, ...]
    to_extend: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]


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
    """An admin client; raises BrokerAbsentError when no broker answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
    except (KafkaConnectionError, OSError):
        await admin.close()
        raise BrokerAbsentError.at(bootstrap) from None
    except KafkaError as error:
        await admin.close()
        raise BrokerAbsentError(f"no Kafka broker answers at {bootstrap}: {_first_line(error)}") from None
    try:
        yield admin
    finally:
        await admin.close()


async def ensure_topics(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], *, anomaly_bytes_max: int = 0
) -> None:
    """Create what is missing, extend what is short, refuse what is wrong with TopicError."""
    report = await examine_topics(admin, specs, anomaly_bytes_max=anomaly_bytes_max)
    if report.problems:
        raise TopicError("; ".join(report.problems))
    if report.missing:
        await _create(admin, report.missing)
    if report.to_extend:
        await _extend(admin, report.to_extend)
    if report.missing or report.to_extend:
        await _await_settled(admin, specs)


async def examine_topics(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], *, anomaly_bytes_max: int = 0
) -> TopicReport:
    """Compare what is there with `specs`, changing nothing; the store must take `anomaly_bytes_max`."""
    counts = await _partition_counts(admin)
    events = next(spec for spec in specs if spec.role is Role.EVENTS)
    wanted = counts.get(events.name, events.partitions)
    present = [spec for spec in specs if spec.name in counts]
    configs = await _configs(admin, [spec.name for spec in present])
    problems: list[str] = []
    to_extend: list[tuple[str, int]] = []
    for spec in present:
        problems += _problems(spec, configs[spec.name], configs.get(events.name, {}))
        if spec.role in _PARTITIONED and counts[spec.name] < wanted:
            to_extend.append((spec.name, wanted))
    store = next(spec for spec in specs if spec.role is Role.ANOMALIES)
    problems += _too_small(store, configs.get(store.name, store.config), anomaly_bytes_max)
    missing = tuple(
        spec if spec.role not in _PARTITIONED else _with_partitions(spec, max(wanted, spec.partitions))
        for spec in specs
        if spec.name not in counts
    )
    return TopicReport(missing, tuple(to_extend), tuple(problems))


_PARTITIONED = frozenset({Role.SCORED, Role.ANOMALIES, Role.DELIVERIES, Role.DEAD_LETTERS})


def _with_partitions(spec: TopicSpec, partitions: int) -> TopicSpec:
    return TopicSpec(spec.role, spec.name, spec.cleanup, partitions, spec.replication, spec.config)


def _problems(spec: TopicSpec, config: dict[str, str], events: dict[str, str]) -> list[str]:
    problems = []
    policy = config.get("cleanup.policy", "")
    if policy != spec.cleanup.value:
        consequence = {
            "compact": "it would lose records that are still needed, or grow without end",
            "delete": "it would lose all but the newest record of each key",
        }[spec.cleanup.value]
        problems.append(
            f"topic {spec.name!r} has cleanup.policy={policy}, expected {spec.cleanup.value}: {consequence}"
        )
    if spec.role is Role.DEAD_LETTERS and events:
        limit, largest = int(config["max.message.bytes"]), int(events["max.message.bytes"])
        if limit < largest:
            problems.append(
                f"topic {spec.name!r} takes messages of {limit} bytes, the events topic {largest}: "
                "raise its max.message.bytes, or large events cannot be set aside"
            )
    return problems


def _too_small(store: TopicSpec, config: Mapping[str, str], anomaly_bytes_max: int) -> list[str]:
    limit = int(config["max.message.bytes"])
    if limit >= anomaly_bytes_max:
        return []
    sentence = (
        f"topic {store.name!r} takes messages of {limit} bytes, and an anomaly of this model may have "
        f"{anomaly_bytes_max}, since it names every feature: give the features shorter names, or raise the "
        "topic's max.message.bytes"
    )
    return [sentence]


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
        counts = await _partition_counts(admin)
        short = [name for name, count in to_extend if counts.get(name, 0) < count]
        # None is short when another worker of the same site was quicker.
        if short:
            raise TopicError(f"topic {short[0]!r} cannot be extended: {_first_line(error)}") from None


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    names = await admin.list_topics()
    described = await admin.describe_topics(names) if names else []
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }


async def _await_settled(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    """Wait until the new topics have leaders: a producer that asks too early only gets errors."""
    names = [spec.name for spec in specs]
    try:
        async with asyncio.timeout(_SETTLE_SECONDS_MAX):
            while True:
                described = await admin.describe_topics(names)
                if all(
                    topic["partitions"] and all(part["leader"] >= 0 for part in topic["partitions"])
                    for topic in described
                ):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TopicError(f"the new topics have no leaders after {_SETTLE_SECONDS_MAX:g} s") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
