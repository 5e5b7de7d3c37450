"""What is wrong with a topic that exists, or weaker than asked: sentences that name the topic and the remedy.

A problem stops a start: records would be lost, refused or never written. A warning does not: the site works,
with less than its settings promise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..schemas.topics import DEAD_LETTER_OVERHEAD_BYTES, Role, TopicSpec

__all__ = [
    "CARRY_EVENTS",
    "MESSAGE_BYTES",
    "FoundTopic",
    "message_bytes_needed",
    "problems_of",
    "warnings_of",
]

_MIN_IN_SYNC: Final = "min.insync.replicas"
_FLUSH: Final = "flush.messages"
_STAMPED: Final = "message.timestamp.type"
MESSAGE_BYTES: Final = "max.message.bytes"

CARRY_EVENTS: Final = frozenset({Role.SCORED, Role.ANOMALIES, Role.DEAD_LETTERS})
"""Their records carry an event's bytes or its key, which may be as large."""


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the broker describes it; `replicas` is the least of its partitions."""

    partitions: int
    replicas: int
    config: Mapping[str, str]


def message_bytes_needed(events: FoundTopic) -> int:
    """The least `max.message.bytes` of a topic that carries what becomes of these events."""
    return int(events.config[MESSAGE_BYTES]) + DEAD_LETTER_OVERHEAD_BYTES


def problems_of(spec: TopicSpec, found: FoundTopic, events: FoundTopic | None) -> list[str]:
    """What stands in the way of a start."""
    problems = []
    policy = found.config.get("cleanup.policy", "")
    if policy != spec.cleanup.value:
        consequence = {
            "compact": "it would lose records that are still needed, or grow without end",
            "delete": "it would lose all but the newest record of each key",
        }[spec.cleanup.value]
        problems.append(
            f"topic {spec.name!r} has cleanup.policy={policy}, expected {spec.cleanup.value}: {consequence}"
        )
    if spec.role in CARRY_EVENTS and events is not None:
        limit = int(found.config[MESSAGE_BYTES])
        needed = message_bytes_needed(events)
        if limit < needed:
            problems.append(
                f"topic {spec.name!r} takes messages of {limit} bytes, too few for what the largest event "
                f"becomes: raise its max.message.bytes to {needed}"
            )
    in_sync = int(found.config.get(_MIN_IN_SYNC, 1))
    if in_sync > found.replicas:
        problems.append(
            f"topic {spec.name!r} has min.insync.replicas={in_sync} and only {found.replicas} "
            f"replica{'s' * (found.replicas != 1)}: nothing could be written; "
            f"lower it to {found.replicas} or add replicas"
        )
    return problems


def warnings_of(spec: TopicSpec, found: FoundTopic) -> list[str]:
    """What an existing topic promises less than the settings ask."""
    warnings = []
    if found.replicas < spec.replication:
        warnings.append(
            f"topic {spec.name!r} has {found.replicas} replicas, the settings ask for {spec.replication}: "
            "a lost disk may lose records; reassign its partitions"
        )
    in_sync, asked = int(found.config.get(_MIN_IN_SYNC, 1)), int(spec.config[_MIN_IN_SYNC])
    if in_sync < asked:
        warnings.append(
            f"topic {spec.name!r} has min.insync.replicas={in_sync}, the settings ask for {asked}: "
            "a record may be acknowledged by fewer brokers; raise it"
        )
    flush = int(found.config.get(_FLUSH, 1))
    if found.replicas == 1 and _FLUSH in spec.config and flush > int(spec.config[_FLUSH]):
        warnings.append(
            f"topic {spec.name!r} has one replica and flush.messages={flush}: "
            "a power cut may lose acknowledged records; set it to 1"
        )
    stamped = found.config.get(_STAMPED, "")
    if stamped != spec.config.get(_STAMPED, stamped):
        warnings.append(
            f"topic {spec.name!r} has {_STAMPED}={stamped}: Kafka refuses what a worker writes whose clock "
            f"is far ahead, and the worker ends; set it to {spec.config[_STAMPED]}"
        )
    return warnings
