"""The stand-in as a process: it says where it is, obeys the door, and ends with a signal or its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from azure.eventhub.aio import EventHubProducerClient

from farshore.local.eventhubs import Control

COMMAND = (sys.executable, "-m", "farshore.local.eventhubs", "--hub", "anomalies", "--partitions", "3")

# A parent that starts the stand-in and then waits for as long as its own standard input is open.
PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:])
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(*COMMAND, stdout=asyncio.subprocess.PIPE)
    yield started
    with suppress(ProcessLookupError):
        started.kill()
    await started.wait()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), 60)


async def test_it_prints_its_address_takes_events_and_obeys_the_control_door(
    process: asyncio.subprocess.Process, batch_of: Any, within: Any
) -> None:
    address = json.loads(await line_of(process))
    assert f"Endpoint=sb://localhost:{address['port']};" in address["connection_string"]
    control = Control(address["control_port"])
    await control.fault("busy", count=1)
    client = EventHubProducerClient.from_connection_string(address["connection_string"], retry_total=0)
    with pytest.raises(Exception, match="busy"):
        await within(40, client.send_batch(batch_of(b"a", partition_id="2"), timeout=20))
    await within(40, client.send_batch(batch_of(b"a", b"b", partition_id="2"), timeout=20))
    await within(20, client.close())
    stats = await control.stats()
    assert stats.events_by_partition == {"0": 0, "1": 0, "2": 2}
    assert (stats.sends_refused, stats.sends_stored) == (1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(process: asyncio.subprocess.Process, number: int) -> None:
    await line_of(process)
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_it_ends_when_its_parent_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    child = int(await line_of(parent))
    json.loads(await line_of(parent))
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(30):
        while is_running(child):
            await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than an entry that nobody has collected."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
    except ProcessLookupError:
        return False


async def test_a_taken_port_is_an_error_and_not_a_second_server(process: asyncio.subprocess.Process) -> None:
    port = json.loads(await line_of(process))["port"]
    second = await asyncio.create_subprocess_exec(
        *COMMAND, "--port", str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await asyncio.wait_for(second.communicate(), 60)
    assert second.returncode != 0
    assert out == b""
    assert b"in use" in error
    assert process.returncode is None
    os.kill(process.pid, 0)
