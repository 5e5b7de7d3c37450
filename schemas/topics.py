"""Topics as data: name, cleanup policy, partitions, replication, flushing, sizes.

Invariants:
  partitions(scored), partitions(anomalies), partitions(deliveries) >= partitions(events)
  max_message_bytes(dead-letters) >= max_message_bytes(events) + DEAD_LETTER_OVERHEAD_BYTES
  cleanup(anomalies) = cleanup(deliveries) = compact: a policy that deletes would lose undelivered anomalies
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "DEAD_LETTER_OVERHEAD_BYTES",
    "Cleanup",
    "Role",
    "TopicNames",
    "TopicSpec",
    "topic_specs",
]

DEAD_LETTER_OVERHEAD_BYTES: Final = 65_536
"""Room for a dead letter's headers and the record's own framing, beside the original bytes."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_COMPACTED_SEGMENT_BYTES: Final = 16 * 1024 * 1024


class Role(StrEnum):
    """What a topic is for; its name is a setting."""

    EVENTS = "events"
    SCORED = "scored"
    ANOMALIES = "anomalies"
    DELIVERIES = "deliveries"
    AUDIT = "audit"
    DEAD_LETTERS = "dead-letters"
    MODELS = "models"


class Cleanup(StrEnum):
    """Kafka's `cleanup.policy`."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The name of each topic on this site."""

    events: str = "events"
    scored: str = "scored"
    anomalies: str = "anomalies"
    deliveries: str = "deliveries"
    audit: str = "audit"
    dead_letters: str = "dead-letters"
    models: str = "models"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `config` holds Kafka's own property names and values."""

    role: Role
    name: str
    cleanup: Cleanup
    partitions: int
    replication: int
    config: Mapping[str, str]

    @property
    def creation_config(self) -> dict[str, str]:
        """Every property set when the topic is created."""
        return {"cleanup.policy": self.cleanup.value, **self.config}


def topic_specs(
    names: TopicNames,
    *,
    partitions: int,
    replication: int,
    in_sync_replicas_min: int,
    event_bytes_max: int,
) -> tuple[TopicSpec, ...]:
    """All topics of a site, in the order in which they are created.

    `event_bytes_max` is the largest message `events` takes. With one replica an acknowledgement is only
    page cache, so each record of an output topic is flushed: acknowledged means on disk. Kafka's own clock
    stamps what farshore writes (ADR 17).
    """
    durable = {
        "min.insync.replicas": str(in_sync_replicas_min),
        "message.timestamp.type": "LogAppendTime",
    }
    if replication == 1:
        durable["flush.messages"] = "1"
    compacted = {
        **durable,
        # Only rolled segments are cleaned: small ones, soon rolled, give room back soon. A log is cleaned
        # when a fifth of it is new, and whatever its share after the longest lag, so that a tombstone never
        # waits for more traffic. Tombstones outlive any reader's pass over the store.
        "segment.bytes": str(_COMPACTED_SEGMENT_BYTES),
        "segment.ms": str(_HOUR_MS),
        "min.cleanable.dirty.ratio": "0.2",
        "max.compaction.lag.ms": str(6 * _HOUR_MS),
        "delete.retention.ms": str(_DAY_MS),
    }
    long_kept = {**durable, "retention.ms": str(365 * _DAY_MS)}
    event_size = {"max.message.bytes": str(event_bytes_max)}
    record_size = {"max.message.bytes": str(max(event_bytes_max, 1_048_576) + DEAD_LETTER_OVERHEAD_BYTES)}

    def spec(role: Role, name: str, cleanup: Cleanup, count: int, config: Mapping[str, str]) -> TopicSpec:
        return TopicSpec(role, name, cleanup, count, replication, config)

    return (
        spec(
            Role.EVENTS,
            names.events,
            Cleanup.DELETE,
            partitions,
            {
                "min.insync.replicas": str(in_sync_replicas_min),
                "retention.ms": str(7 * _DAY_MS),
                **event_size,
            },
        ),
        spec(
            Role.SCORED,
            names.scored,
            Cleanup.DELETE,
            partitions,
            # A scored record carries the event's key, which may be as large as the event.
            {**durable, "retention.ms": str(7 * _DAY_MS), **record_size},
        ),
        spec(Role.ANOMALIES, names.anomalies, Cleanup.COMPACT, partitions, {**compacted, **record_size}),
        spec(Role.DELIVERIES, names.deliveries, Cleanup.COMPACT, partitions, compacted),
        spec(Role.AUDIT, names.audit, Cleanup.DELETE, 1, long_kept),
        spec(
            Role.DEAD_LETTERS,
            names.dead_letters,
            Cleanup.DELETE,
            partitions,
            {**long_kept, **record_size},
        ),
        spec(Role.MODELS, names.models, Cleanup.COMPACT, 1, compacted),
    )
