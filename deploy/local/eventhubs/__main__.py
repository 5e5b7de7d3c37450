"""The stand-in as a process: prints its address as one JSON line and serves.

It ends with SIGTERM, SIGINT or its parent.

python -m farshore.local.eventhubs --hub anomalies --partitions 4 --port 0
{"port": 40001, "control_port": 40002, "connection_string": "Endpoint=sb://localhost:40001;..."}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence

from .backend import LINK_BYTES_MAX
from .control import ControlDoor
from .hub import PARTITION_BYTES_MAX
from .parent import end_with_parent
from .server import EventHubsStandIn


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    end_with_parent()
    stand_in = EventHubsStandIn(
        options.hub,
        options.partitions,
        options.port,
        link_bytes_max=options.link_bytes_max,
        partition_bytes_max=options.partition_bytes_max,
    )
    async with stand_in, ControlDoor(stand_in, options.control_port) as door:
        address = {
            "port": stand_in.port,
            "control_port": door.port,
            "connection_string": stand_in.connection_string,
        }
        sys.stdout.write(json.dumps(address) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="farshore.local.eventhubs",
        description="A stand-in for Azure Event Hubs on 127.0.0.1, in memory.",
    )
    parser.add_argument("--hub", default="anomalies", help="the event hub's name")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--port", type=int, default=0, help="of AMQP; 0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0, help="of the control door; 0 takes a free one")
    parser.add_argument("--link-bytes-max", type=int, default=LINK_BYTES_MAX, help="of one message or batch")
    parser.add_argument(
        "--partition-bytes-max",
        type=int,
        default=PARTITION_BYTES_MAX,
        help="held in memory per partition; past it the oldest events are dropped and counted",
    )
    asyncio.run(serve(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
