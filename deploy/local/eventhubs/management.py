"""`$management`: what the hub and its partitions say about themselves (operation READ)."""

from __future__ import annotations

from dataclasses import dataclass

from .constructors import STRING_32
from .hub import Hub
from .partitions import Partition
from .values import Array, Int, Long, Timestamp, Value


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: an HTTP status, a sentence, a body."""

    status: int
    description: str
    body: Value = None


def read_management(hub: Hub, arguments: Value) -> Answer:
    """Answer one request by its application properties."""
    if not isinstance(arguments, dict) or arguments.get("operation") != "READ":
        return Answer(400, "The only operation is READ.")
    name = arguments.get("name")
    if not isinstance(name, str) or name.lower() != hub.name.lower():
        return Answer(404, f"There is no event hub {name!r}.")
    match arguments.get("type"):
        case "com.microsoft:eventhub":
            return Answer(200, "OK", _hub_properties(hub))
        case "com.microsoft:partition":
            partition = hub.partitions.get(str(arguments.get("partition")))
            if partition is None:
                return Answer(404, f"There is no partition {arguments.get('partition')!r}.")
            return Answer(200, "OK", _partition_properties(hub, partition))
        case other:
            return Answer(400, f"There is no entity type {other!r}.")


def _hub_properties(hub: Hub) -> Value:
    return {
        "name": hub.name,
        "type": "com.microsoft:eventhub",
        "created_at": Timestamp(hub.created_ms),
        "partition_count": Int(len(hub.partitions)),
        "partition_ids": Array(STRING_32, tuple(hub.partitions)),
        "georeplication_factor": Int(1),
    }


def _partition_properties(hub: Hub, partition: Partition) -> Value:
    return {
        "name": hub.name,
        "type": "com.microsoft:partition",
        "partition": partition.name,
        "begin_sequence_number": Long(partition.begin_sequence),
        "last_enqueued_sequence_number": Long(partition.next_sequence - 1),
        "last_enqueued_offset": partition.last_offset,
        "last_enqueued_time_utc": Timestamp(partition.last_enqueued_ms),
        "is_partition_empty": partition.is_empty,
    }
