"""What the tests of the sender share."""

from __future__ import annotations

from typing import Any

import orjson

from farshore.agents.departures import Anomaly, Origin, Outcomes
from farshore.agents.hub_access import connection_string_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.sender import Sender, SenderLimits
from farshore.agents.uplink import EventHubUplink, UplinkLimits
from farshore.local.eventhubs import EventHubsStandIn
from farshore.streams.delivery.breaker import BackoffLimits
from farshore.streams.delivery.policy import Policy
from farshore.streams.transport.batch import PartitionBatch

from ..site import anomaly_record, stored_in

__all__ = [
    "LANE",
    "NO_HUB",
    "NothingSettled",
    "at_hub",
    "batch_of",
    "deliver",
    "details",
    "leaving",
    "record",
    "sender_to",
]

LANE = 1
NO_HUB = "Endpoint=sb://127.0.0.1;SharedAccessKeyName=k;SharedAccessKey=a2V5;EntityPath=anomalies"


def sender_to(hub: EventHubsStandIn, **more: Any) -> tuple[Sender, EventHubUplink]:
    uplink = EventHubUplink(connection_string_access(hub.connection_string), UplinkLimits())
    limits = SenderLimits(BackoffLimits(0.05, 0.2), **more)
    return Sender(uplink, EventEncoder("/farshore/north"), limits), uplink


def batch_of(records: list[tuple[bytes | None, bytes | None]]) -> PartitionBatch:
    keys, values = [key for key, _ in records], [value for _, value in records]
    offsets = list(range(len(records)))
    return PartitionBatch("anomalies", LANE, len(records), offsets, offsets, keys, values, 0)


def record(number: int, **changes: Any) -> tuple[bytes, bytes]:
    value = anomaly_record(number) | changes
    return value["id"].encode(), orjson.dumps(value)


def leaving(number: int, **changes: Any) -> Anomaly:
    """An anomaly of which everything may leave."""
    key, body = record(number, **changes)
    return Anomaly(key, number, body)


def at_hub(hub: EventHubsStandIn, partition: int = LANE) -> list[int]:
    return [int(orjson.loads(body)["id"], 16) for number, body in stored_in(hub) if number == partition]


class NothingSettled:
    """As of a new site."""

    def holds(self, _partition: int, _offset: int, _key: bytes) -> bool:
        return False

    def holds_place(self, _partition: int, _offset: int, _key: bytes) -> bool:
        return False


async def deliver(sender: Sender, *anomalies: Anomaly) -> Outcomes:
    outcomes = Outcomes(origin=Origin("north", LANE, Policy()))
    await sender.deliver(LANE, anomalies, outcomes)
    return outcomes


def details(outcomes: Outcomes) -> dict[bytes | None, dict[str, Any]]:
    values = (orjson.loads(value or b"") for value in outcomes.columns.values)
    return dict(zip(outcomes.columns.keys, values, strict=True))
