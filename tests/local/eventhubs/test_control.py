"""The control door: faults and figures from outside, and what it makes of nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from farshore.local.eventhubs import Control, ControlDoor, ControlError, EventHubsStandIn, FaultKind

WAIT_SECONDS = 20.0


@pytest.fixture
async def door(stand_in: EventHubsStandIn) -> AsyncIterator[ControlDoor]:
    async with ControlDoor(stand_in) as opened:
        yield opened


async def test_faults_are_switched_and_cleared_from_outside(
    stand_in: EventHubsStandIn, door: ControlDoor
) -> None:
    control = Control(door.port)
    for kind in FaultKind:
        await control.fault(kind)
        assert stand_in.faults.fault.kind is kind
    await control.fault("delay", count=3, delay_seconds=0.5)
    assert (stand_in.faults.fault.count, stand_in.faults.fault.delay_seconds) == (3, 0.5)
    assert (await control.stats()).fault == "delay"
    await control.clear()
    assert (await control.stats()).fault == "none"


async def test_figures_are_the_same_from_outside(stand_in: EventHubsStandIn, door: ControlDoor) -> None:
    stand_in.hub.partitions["1"].append((b"a", b"bc"))
    assert await Control(door.port).stats() == stand_in.stats()
    assert stand_in.stats().events_by_partition == {"0": 0, "1": 2}


async def test_nonsense_is_answered_with_an_error_and_the_next_line_with_what_it_asks(
    stand_in: EventHubsStandIn, door: ControlDoor
) -> None:
    lines = [
        b"[]",
        b"no json",
        b"{}",
        b'{"fault": "gremlins"}',
        b'{"fault": 7}',
        b'{"fault": "busy", "count": "many"}',
        b'{"fault": "delay", "delay_seconds": "long"}',
        b'{"fault": "bandwidth-limit", "bytes_per_second": 0.5}',
        b'{"fault": "busy", "colour": "red"}',
        b'{"fault": "refuse", "count": 2}',
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    for line in lines:
        writer.write(line + b"\n")
        response = json.loads(await asyncio.wait_for(reader.readline(), WAIT_SECONDS))
        assert list(response) == ["error"], line
    assert stand_in.faults.fault.kind is FaultKind.NONE
    writer.write(b'{"fault": "busy", "count": null}\n')
    assert json.loads(await asyncio.wait_for(reader.readline(), WAIT_SECONDS)) == {"ok": True}
    writer.close()


async def test_a_line_without_end_is_cut_off_and_the_door_stays_open(door: ControlDoor) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(b"x" * 200_000)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), WAIT_SECONDS)
    writer.close()
    assert (await Control(door.port).stats()).events == 0


async def test_a_closed_door_is_a_control_error(stand_in: EventHubsStandIn) -> None:
    async with ControlDoor(stand_in) as door:
        port = door.port
    with pytest.raises(ControlError, match=str(port)):
        await Control(port).stats()
