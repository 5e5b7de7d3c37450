"""What every connection shares: the hub, the faults, the limits and the counters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from .faults import FaultSwitch
from .hub import Hub

LINK_BYTES_MAX = 1_048_576
TOKENS_KEPT = 32


@dataclass(frozen=True)
class Limits:
    """Bounds on what one peer can make the server hold or wait for."""

    link_bytes_max: int = LINK_BYTES_MAX
    """Of one delivery, as announced to producers."""
    frame_bytes_max: int = 65_536
    link_credit: int = 1_000
    session_window: int = 5_000
    connections_max: int = 512
    sessions_max: int = 64
    """On one connection."""
    links_max: int = 64
    """In one session."""
    pending_responses_max: int = 64
    """Responses that wait for credit on one link."""
    idle_timeout_seconds: float = 240.0
    """A connection silent for longer is closed, as the service does."""

    def __post_init__(self) -> None:
        if self.link_bytes_max < 1:
            raise ValueError("link_bytes_max is at least 1")


@dataclass
class Counters:
    """What happened since the start; never reset."""

    sends_stored: int = 0
    """Deliveries stored; a batch is one."""
    sends_refused: int = 0
    """Deliveries rejected or released, by a fault or for their size."""
    connections_accepted: int = 0
    protocol_errors: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What a peer showed at `$cbs`: `kind` is `jwt` or `servicebus.windows.net:sastoken`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Backend:
    """One for each server."""

    hub: Hub
    limits: Limits
    faults: FaultSwitch = field(default_factory=FaultSwitch)
    counters: Counters = field(default_factory=Counters)
    tokens: deque[Token] = field(default_factory=partial(deque, maxlen=TOKENS_KEPT))
    """The newest tokens that were taken, oldest first."""
