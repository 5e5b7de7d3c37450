"""Events as a receiver sees them: CloudEvents whose properties differ in nothing but the id."""

from __future__ import annotations

from azure.eventhub import EventData

from farshore.agents.hub_access import connection_string_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.uplink import EventHubUplink, UplinkLimits
from farshore.local.eventhubs import EventHubsStandIn

from ..site_hub import read_hub


async def test_the_sdk_reads_each_event_as_a_cloud_event(hub: EventHubsStandIn) -> None:
    uplink = EventHubUplink(connection_string_access(hub.connection_string), UplinkLimits())
    long_site = "n" * 128
    await uplink.connect(0)
    batch = uplink.new_batch(0)
    bodies = [b"{}", b"x" * 300, b"y" * 100_000]
    for number, body in enumerate(bodies):
        assert batch.append(EventEncoder(f"/farshore/{long_site}").encode(b"%032x" % number, body))
    await uplink.send(batch)
    await uplink.close()
    events: list[EventData] = await read_hub(hub)
    assert [event.body_as_str().encode() for event in events] == bodies
    for number, event in enumerate(events):
        assert event.content_type == "application/json"
        assert {name.decode(): value.decode() for name, value in (event.properties or {}).items()} == {
            "cloudEvents:specversion": "1.0",
            "cloudEvents:type": "farshore.anomaly",
            "cloudEvents:source": f"/farshore/{long_site}",
            "cloudEvents:id": f"{number:032x}",
        }
        assert event.message_id is None
        assert event.partition_key is None


async def test_the_size_of_a_batch_is_what_stands_on_the_wire() -> None:
    """One byte less would let the link refuse batches that were thought to fit."""
    async with EventHubsStandIn(hub="anomalies", partitions=1, link_bytes_max=8_192) as hub:
        uplink = EventHubUplink(connection_string_access(hub.connection_string), UplinkLimits())
        encoder = EventEncoder("/farshore/north")
        await uplink.connect(0)
        for length in (1, 40, 60, 400):  # around the size at which a data section's head grows
            batch = uplink.new_batch(0)
            while batch.append(encoder.encode(b"0" * 32, b"x" * length)):
                pass
            await uplink.send(batch)
        await uplink.close()
        assert hub.stats().sends_refused == 0
