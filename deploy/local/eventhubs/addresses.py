"""Link addresses: which node a link is for.

Addresses arrive as URLs or bare paths: `amqps://localhost:5672/hub/Partitions/0`, `hub`, `$cbs`,
`hub/ConsumerGroups/$default/Partitions/0`. Hub, group and the fixed words are compared without case.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .errors import NOT_FOUND, AttachRefused
from .hub import Hub
from .partitions import Partition
from .values import Described, Value

CBS = "$cbs"
MANAGEMENT = "$management"
CONSUMER_GROUP = "$default"

_TERMINUS_ADDRESS = 0
_SOURCE_FILTERS = 7


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishing to the hub; without a partition the hub chooses for each delivery."""

    partition: Partition | None


@dataclass(frozen=True, slots=True)
class Consumer:
    """Reading one partition as one consumer group."""

    partition: Partition


@dataclass(frozen=True, slots=True)
class Requests:
    """`$cbs` or `$management`: requests one way, responses the other."""

    name: str


def publishing_node(target: Value, hub: Hub) -> Publisher | Requests:
    """The node that a sending peer's target names. Raises `AttachRefused`."""
    path = _path(target)
    match path:
        case [name] if name in (CBS, MANAGEMENT):
            return Requests(name)
        case [name] if name == hub.name.lower():
            return Publisher(None)
        case [name, "partitions", partition] if name == hub.name.lower():
            return Publisher(_partition(hub, partition))
    raise AttachRefused(NOT_FOUND, f"nothing to send to at {'/'.join(path)}")


def reading_node(source: Value, hub: Hub) -> Consumer | Requests:
    """The node that a receiving peer's source names. Raises `AttachRefused`."""
    path = _path(source)
    match path:
        case [name] if name in (CBS, MANAGEMENT):
            return Requests(name)
        case [name, "consumergroups", group, "partitions", partition] if name == hub.name.lower():
            if group != CONSUMER_GROUP:
                raise AttachRefused(NOT_FOUND, f"there is no consumer group {group}")
            return Consumer(_partition(hub, partition))
    raise AttachRefused(NOT_FOUND, f"nothing to read at {'/'.join(path)}")


def source_filters(source: Value) -> Value:
    """The filters of a source, or `None`."""
    fields = _fields(source)
    return fields[_SOURCE_FILTERS] if len(fields) > _SOURCE_FILTERS else None


def _fields(terminus: Value) -> list[Value]:
    if isinstance(terminus, Described) and isinstance(terminus.value, list):
        return terminus.value
    return []


def _path(terminus: Value) -> list[str]:
    fields = _fields(terminus)
    address = fields[_TERMINUS_ADDRESS] if fields else None
    if not isinstance(address, str):
        raise AttachRefused(NOT_FOUND, "the link has no address")
    path = urlsplit(address).path if "://" in address else address
    return [unquote(part).lower() for part in path.strip("/").split("/")]


def _partition(hub: Hub, name: str) -> Partition:
    try:
        return hub.partitions[name]
    except KeyError:
        raise AttachRefused(NOT_FOUND, f"{hub.name} has no partition {name}") from None
