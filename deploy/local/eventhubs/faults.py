"""Faults, one at a time: what it is, how often it still strikes, and the switch that every part asks.

To add one: a line in `FaultKind`, and a case where it strikes (`publishing.py` for what becomes of a
delivery, `requests.py` for tokens, `server.py` for what concerns all connections).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .bandwidth import Line

DELAY_SECONDS_MAX = 60.0


class FaultKind(StrEnum):
    """Every fault by the name it has on the control door."""

    NONE = "none"
    # Concern the listening socket and all connections, until cleared.
    REFUSE = "refuse"
    """Nobody listens; established connections are reset."""
    BLACK_HOLE = "black-hole"
    """Connections are accepted and stay open; nothing is read, nothing answered. Reset when cleared."""
    BANDWIDTH_LIMIT = "bandwidth-limit"
    """Reading is held to `bytes_per_second`, all connections together."""
    # Strike one delivery of a producer, `count` times or until cleared.
    RESET_BEFORE_STORE = "reset-before-store"
    """Not stored; the connection is reset."""
    DROP_AFTER_STORE = "drop-after-store"
    """Stored; the connection is reset before the acknowledgement."""
    NO_ACK = "no-ack"
    """Stored; never acknowledged."""
    BUSY = "busy"
    """Not stored; rejected with `com.microsoft:server-busy`."""
    REJECT = "reject"
    """Not stored; rejected with `amqp:internal-error`."""
    RELEASE = "release"
    """Not stored; released."""
    DETACH = "detach"
    """Not stored; the link is detached with `amqp:link:detach-forced`."""
    END_SESSION = "end-session"
    """Not stored; the session is ended."""
    TOKEN_EXPIRED = "token-expired"  # noqa: S105  # the name of a fault
    """Not stored; the link is detached with `amqp:unauthorized-access`, as when its token has run out."""
    CLOSE_CONNECTION = "close-connection"
    """Not stored; the connection is closed with `amqp:connection:forced`."""
    DELAY = "delay"
    """Stored; acknowledged `delay_seconds` later."""
    # Strike one token, `count` times or until cleared.
    TOKEN_REFUSED = "token-refused"  # noqa: S105  # the name of a fault
    """`$cbs` answers 401."""
    TOKEN_IGNORED = "token-ignored"  # noqa: S105
    """`$cbs` never answers."""


STANDING = frozenset(
    {FaultKind.NONE, FaultKind.REFUSE, FaultKind.BLACK_HOLE, FaultKind.BANDWIDTH_LIMIT},
)
"""States rather than events: they do not take a count."""

DELIVERY = frozenset(
    {
        FaultKind.RESET_BEFORE_STORE,
        FaultKind.DROP_AFTER_STORE,
        FaultKind.NO_ACK,
        FaultKind.BUSY,
        FaultKind.REJECT,
        FaultKind.RELEASE,
        FaultKind.DETACH,
        FaultKind.END_SESSION,
        FaultKind.TOKEN_EXPIRED,
        FaultKind.CLOSE_CONNECTION,
        FaultKind.DELAY,
    }
)
"""What can become of a delivery."""

TOKEN = frozenset({FaultKind.TOKEN_REFUSED, FaultKind.TOKEN_IGNORED})
"""What can become of a token."""


@dataclass(frozen=True)
class Fault:
    """A fault to switch on. `count` is how often it strikes, `None` until cleared. Raises `ValueError`."""

    kind: FaultKind
    count: int | None = None
    delay_seconds: float = 1.0
    bytes_per_second: int = 65_536

    def __post_init__(self) -> None:
        if self.count is not None and (self.kind in STANDING or self.count < 1):
            raise ValueError(f"{self.kind} cannot strike {self.count} times")
        if not 0 < self.delay_seconds <= DELAY_SECONDS_MAX:
            raise ValueError(f"delay_seconds is above 0 and at most {DELAY_SECONDS_MAX:g}")
        if self.bytes_per_second < 1:
            raise ValueError("bytes_per_second is at least 1")


NO_FAULT = Fault(FaultKind.NONE)


class FaultSwitch:
    """Holds the fault that is on. A counted one switches itself off after its last strike."""

    def __init__(self) -> None:
        self._fault = NO_FAULT
        self._left: int | None = None
        self.line: Line | None = None
        self.strikes = 0

    @property
    def fault(self) -> Fault:
        """The fault that is on, or `NO_FAULT`."""
        return self._fault

    def set(self, fault: Fault) -> None:
        """Switch to `fault`, whatever was on before."""
        self._fault = fault
        self._left = fault.count
        limited = fault.kind is FaultKind.BANDWIDTH_LIMIT
        self.line = Line(fault.bytes_per_second) if limited else None

    def strike(self, kinds: frozenset[FaultKind]) -> Fault:
        """The fault that is on if it is one of `kinds`, and one strike less of it; else `NO_FAULT`."""
        fault = self._fault
        if fault.kind not in kinds:
            return NO_FAULT
        self.strikes += 1
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.set(NO_FAULT)
        return fault
