"""A stand-in for Azure Event Hubs: AMQP 1.0 on 127.0.0.1, in memory, with faults to switch on.

The unmodified `azure-eventhub` SDK sends to it and reads back. In process: `EventHubsStandIn`. As a process:
`python -m farshore.local.eventhubs`, steered through `Control`. Faults are listed in `faults.py`.
"""

from __future__ import annotations

from .control import Control, ControlDoor, ControlError
from .faults import Fault, FaultKind
from .server import EventHubsStandIn
from .stats import Stats

__all__ = [
    "Control",
    "ControlDoor",
    "ControlError",
    "EventHubsStandIn",
    "Fault",
    "FaultKind",
    "Stats",
]
