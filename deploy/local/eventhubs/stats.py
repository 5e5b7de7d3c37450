"""The figures of a running stand-in, the same in process and over the control door."""

from __future__ import annotations

from dataclasses import dataclass

from .backend import Backend


@dataclass(frozen=True)
class Stats:
    """What is stored and what happened since the start."""

    events: int
    """Ever stored, those dropped since included."""
    events_by_partition: dict[str, int]
    events_dropped: int
    """Dropped because their partition was full."""
    bytes_held: int
    sends_stored: int
    """Deliveries stored; a batch is one."""
    sends_refused: int
    connections: int
    """Open now."""
    connections_accepted: int
    protocol_errors: int
    fault: str
    """The fault that is on, or "none"."""
    fault_strikes: int
    """Deliveries and tokens that met a fault."""


def read_stats(backend: Backend, connections: int) -> Stats:
    """The figures now."""
    partitions = backend.hub.partitions.values()
    by_partition = {partition.name: partition.next_sequence for partition in partitions}
    counters = backend.counters
    return Stats(
        events=sum(by_partition.values()),
        events_by_partition=by_partition,
        events_dropped=sum(partition.events_dropped for partition in partitions),
        bytes_held=sum(partition.bytes_held for partition in partitions),
        sends_stored=counters.sends_stored,
        sends_refused=counters.sends_refused,
        connections=connections,
        connections_accepted=counters.connections_accepted,
        protocol_errors=counters.protocol_errors,
        fault=str(backend.faults.fault.kind),
        fault_strikes=backend.faults.strikes,
    )
