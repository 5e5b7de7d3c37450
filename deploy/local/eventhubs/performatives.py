"""The nine performatives of AMQP 1.0, its error, outcomes and SASL frames, with their fields in wire order.

Defaults are those of the specification (parts 2, 3 and 5). `Value` marks fields that this server hands back
unread or reads itself, such as a terminus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .composites import Composite
from .values import Symbol, UByte, UInt, ULong, UShort, Value

SENDER = False
RECEIVER = True
"""The two roles of a link's end."""

CHANNEL_MAX_DEFAULT = UShort(65_535)
WORD_MAX = UInt(4_294_967_295)
SETTLE_MIXED = UByte(2)
SETTLE_FIRST = UByte(0)


@dataclass(frozen=True)
class Open(Composite):
    """Begins a connection."""

    code: ClassVar[int] = 0x10
    container_id: str
    hostname: str | None = None
    max_frame_size: UInt = WORD_MAX
    channel_max: UShort = CHANNEL_MAX_DEFAULT
    idle_timeout: UInt | None = None
    outgoing_locales: Value = None
    incoming_locales: Value = None
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: Value = None


@dataclass(frozen=True)
class Begin(Composite):
    """Begins a session; windows count transfer frames."""

    code: ClassVar[int] = 0x11
    remote_channel: UShort | None
    next_outgoing_id: UInt
    incoming_window: UInt
    outgoing_window: UInt
    handle_max: UInt = WORD_MAX
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: Value = None


@dataclass(frozen=True)
class Attach(Composite):
    """Attaches a link."""

    code: ClassVar[int] = 0x12
    name: str
    handle: UInt
    role: bool
    snd_settle_mode: UByte = SETTLE_MIXED
    rcv_settle_mode: UByte = SETTLE_FIRST
    source: Value = None
    target: Value = None
    unsettled: Value = None
    incomplete_unsettled: bool | None = None
    initial_delivery_count: UInt | None = None
    max_message_size: ULong | None = None
    offered_capabilities: Value = None
    desired_capabilities: Value = None
    properties: Value = None


@dataclass(frozen=True)
class Flow(Composite):
    """Moves a session's window and, with a handle, a link's credit."""

    code: ClassVar[int] = 0x13
    next_incoming_id: UInt | None
    incoming_window: UInt
    next_outgoing_id: UInt
    outgoing_window: UInt
    handle: UInt | None = None
    delivery_count: UInt | None = None
    link_credit: UInt | None = None
    available: UInt | None = None
    drain: bool | None = None
    echo: bool | None = None
    properties: Value = None


@dataclass(frozen=True)
class Transfer(Composite):
    """Carries a message or, with `more`, a part of one."""

    code: ClassVar[int] = 0x14
    handle: UInt
    delivery_id: UInt | None = None
    delivery_tag: bytes | None = None
    message_format: UInt | None = None
    settled: bool | None = None
    more: bool | None = None
    rcv_settle_mode: UByte | None = None
    state: Value = None
    resume: bool | None = None
    aborted: bool | None = None
    batchable: bool | None = None


@dataclass(frozen=True)
class Disposition(Composite):
    """Says what became of deliveries `first` to `last`."""

    code: ClassVar[int] = 0x15
    role: bool
    first: UInt
    last: UInt | None = None
    settled: bool | None = None
    state: Value = None
    batchable: bool | None = None


@dataclass(frozen=True)
class Error(Composite):
    """Why something ended or was refused."""

    code: ClassVar[int] = 0x1D
    condition: Symbol
    description: str | None = None
    info: Value = None


@dataclass(frozen=True)
class Detach(Composite):
    """Ends a link."""

    code: ClassVar[int] = 0x16
    handle: UInt
    closed: bool | None = None
    error: Error | None = None


@dataclass(frozen=True)
class End(Composite):
    """Ends a session."""

    code: ClassVar[int] = 0x17
    error: Error | None = None


@dataclass(frozen=True)
class Close(Composite):
    """Ends a connection."""

    code: ClassVar[int] = 0x18
    error: Error | None = None


@dataclass(frozen=True)
class Accepted(Composite):
    """The outcome of a delivery that was taken."""

    code: ClassVar[int] = 0x24


@dataclass(frozen=True)
class Rejected(Composite):
    """The outcome of a delivery that is invalid or unwelcome."""

    code: ClassVar[int] = 0x25
    error: Error | None = None


@dataclass(frozen=True)
class Released(Composite):
    """The outcome of a delivery that was not looked at."""

    code: ClassVar[int] = 0x26


@dataclass(frozen=True)
class SaslMechanisms(Composite):
    """What the server offers."""

    code: ClassVar[int] = 0x40
    mechanisms: Value


@dataclass(frozen=True)
class SaslInit(Composite):
    """What the client chose."""

    code: ClassVar[int] = 0x41
    mechanism: Symbol
    initial_response: bytes | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class SaslOutcome(Composite):
    """How the exchange ended; 0 is well, 1 is refused."""

    code: ClassVar[int] = 0x44
    outcome: UByte
    additional_data: bytes | None = None


PERFORMATIVES: dict[int, type[Composite]] = {
    kind.code: kind for kind in (Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close)
}
"""Descriptor → performative."""
