"""One TCP connection: SASL, AMQP header, Open, frames to sessions, heartbeats, and the ways it ends.

A peer's mistake closes this connection with an AMQP error and touches nothing else. Memory for one connection
is bounded: an unfinished frame, one delivery per link, and what the transport holds; while the peer does not
take what is written, nothing more is read from it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum, auto
from typing import cast

from .backend import Backend
from .composites import Composite, from_value
from .constructors import SYMBOL_8
from .decode import decode_value
from .errors import (
    CONNECTION_FORCED,
    DECODE,
    ILLEGAL_STATE,
    INVALID_FIELD,
    NOT_ALLOWED,
    RESOURCE_LIMIT,
    DecodeError,
    ProtocolError,
)
from .faults import FaultKind
from .frames import (
    AMQP_FRAME,
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_FRAME,
    SASL_HEADER,
    Frame,
    FrameReader,
    build_frame,
    read_performative,
)
from .performatives import Begin, Close, End, Error, Open, SaslInit, SaslMechanisms, SaslOutcome
from .session import Session
from .values import Array, Symbol, UByte, UInt, UShort

CONTAINER = "event-hubs-stand-in"
FRAME_BYTES_MIN = 512
"""Every peer must take frames of this size (specification part 2, section 2.7.1)."""

CLOSING_SECONDS_MAX = 1.0
"""How long the peer has to read the close frame and hang up."""

MECHANISMS = ("ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Phase(Enum):
    HEADER = auto()
    SASL = auto()
    OPENING = auto()
    OPENED = auto()
    OVER = auto()


class Hold(Enum):
    """Why nothing is read from the peer."""

    FROZEN = auto()
    PEER_DOES_NOT_READ = auto()
    BANDWIDTH = auto()


class Connection(asyncio.Protocol):
    """Registers itself in `registry` while it lives."""

    def __init__(self, backend: Backend, registry: dict[Connection, None]) -> None:
        self.backend = backend
        self.peer_frame_bytes_max = FRAME_BYTES_MIN
        self._registry = registry
        self._reader = FrameReader(backend.limits.frame_bytes_max)
        self._sessions: dict[int, Session] = {}
        self._holds: set[Hold] = set()
        self._phase = _Phase.HEADER
        self._timers: list[asyncio.TimerHandle] = []
        self._read_at = self._wrote_at = 0.0
        self._beat_seconds = 0.0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the interface and are no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._registry[self] = None
        self._read_at = self._loop.time()
        self.backend.counters.connections_accepted += 1
        is_black_hole = self.backend.faults.fault.kind is FaultKind.BLACK_HOLE
        if is_black_hole:
            self.hold(Hold.FROZEN)
        if len(self._registry) > self.backend.limits.connections_max:
            # In a black hole nobody sees clients hang up, so the oldest connection makes room.
            (next(iter(self._registry)) if is_black_hole else self).reset()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything."""
        self._over()
        self._registry.pop(self, None)

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self.hold(Hold.PEER_DOES_NOT_READ)

    def resume_writing(self) -> None:
        """The peer keeps up again."""
        self.release(Hold.PEER_DOES_NOT_READ)
        for session in tuple(self._sessions.values()):
            session.pump()

    def data_received(self, data: bytes) -> None:
        """Process whatever is complete."""
        self._read_at = self._loop.time()
        if self._phase is _Phase.OVER:
            return
        self._reader.feed(data)
        try:
            self._process()
        except ProtocolError as error:
            self.backend.counters.protocol_errors += 1
            self.close(Error(error.condition, error.description))
        line = self.backend.faults.line
        if line is not None and not self._transport.is_closing():
            self.hold(Hold.BANDWIDTH)
            self._loop.call_later(line.occupy(len(data), self._read_at), self.release, Hold.BANDWIDTH)

    # What sessions and the server call.

    @property
    def is_writable(self) -> bool:
        """Whether a long stream of writes may go on."""
        blocked = Hold.FROZEN in self._holds or Hold.PEER_DOES_NOT_READ in self._holds
        return self._phase is _Phase.OPENED and not blocked

    def write(self, data: bytes) -> None:
        """Send bytes; a frozen or finished connection sends nothing."""
        if self._phase is not _Phase.OVER and Hold.FROZEN not in self._holds:
            self._wrote_at = self._loop.time()
            self._transport.write(data)

    def close(self, error: Error | None = None) -> None:
        """End in order: a close frame, then the peer's hang-up or `CLOSING_SECONDS_MAX`."""
        if self._phase is _Phase.OVER:
            return
        if self._phase is _Phase.OPENED:
            self.write(build_frame(0, Close(error)))
        self._over()
        # Hanging up with unread bytes would reset, and the peer would lose the close frame.
        self._loop.call_later(CLOSING_SECONDS_MAX, self._transport.abort)

    def reset(self) -> None:
        """End at once: the peer sees a reset, and what was written but not sent is lost."""
        self._over()
        raw: socket.socket = self._transport.get_extra_info("socket")
        if raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def hold(self, reason: Hold) -> None:
        """Stop reading."""
        if not self._holds:
            self._transport.pause_reading()
        self._holds.add(reason)

    def release(self, reason: Hold) -> None:
        """Read again, unless there is another reason not to."""
        self._holds.discard(reason)
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    # Steps of the protocol.

    def _process(self) -> None:
        while self._phase is not _Phase.OVER:
            if self._phase is _Phase.HEADER:
                header = self._reader.take_header()
                if header is None:
                    return
                self._greet(header)
                continue
            frame = self._reader.take_frame()
            if frame is None:
                return
            if self._phase is _Phase.SASL:
                self._authenticate(frame)
            elif frame.kind != AMQP_FRAME:
                raise ProtocolError(NOT_ALLOWED, f"a frame of type {frame.kind}")
            elif frame.body:
                self._dispatch(frame)

    def _greet(self, header: bytes) -> None:
        if header == SASL_HEADER:
            self._phase = _Phase.SASL
            symbols = Array(SYMBOL_8, tuple(Symbol(name) for name in MECHANISMS))
            self.write(SASL_HEADER + build_frame(0, SaslMechanisms(symbols), kind=SASL_FRAME))
        elif header == AMQP_HEADER:
            self._phase = _Phase.OPENING
            self.write(AMQP_HEADER)
        else:
            # The specification asks for the header that would be understood, and a hang-up.
            self.write(AMQP_HEADER)
            self._over()
            self._transport.close()

    def _authenticate(self, frame: Frame) -> None:
        if frame.kind != SASL_FRAME:
            raise ProtocolError(NOT_ALLOWED, "a frame before the end of SASL")
        try:
            chosen = from_value(SaslInit, decode_value(frame.body)[0])
        except DecodeError as error:
            raise ProtocolError(DECODE, str(error)) from error
        outcome = UByte(0 if chosen.mechanism in MECHANISMS else 1)
        self.write(build_frame(0, SaslOutcome(outcome), kind=SASL_FRAME))
        self._phase = _Phase.HEADER

    def _dispatch(self, frame: Frame) -> None:
        performative, payload = read_performative(frame.body)
        if self._phase is _Phase.OPENING:
            self._open(performative)
            return
        match performative:
            case Open():
                raise ProtocolError(ILLEGAL_STATE, "a second Open")
            case Close():
                self.write(build_frame(0, Close()))
                self._over()
                self._transport.close()
            case Begin():
                self._begin(frame.channel, performative)
            case End():
                session = self._session(frame.channel)
                if not session.is_ended:
                    session.end()
            case _:
                session = self._session(frame.channel)
                # An ended session is kept until its channel is used again, to pass over what the peer sent
                # before it knew, and the SDK's habit of detaching links after it has ended their session
                # itself.
                if not session.is_ended:
                    session.handle(performative, payload)

    def _open(self, performative: Composite) -> None:
        if not isinstance(performative, Open):
            raise ProtocolError(ILLEGAL_STATE, "the first frame must be Open")
        limits = self.backend.limits
        self._phase = _Phase.OPENED
        self.write(
            build_frame(
                0,
                Open(
                    CONTAINER,
                    None,
                    UInt(limits.frame_bytes_max),
                    UShort(limits.sessions_max - 1),
                    UInt(int(limits.idle_timeout_seconds * 1000)),
                ),
            )
        )
        if performative.max_frame_size < FRAME_BYTES_MIN:
            raise ProtocolError(INVALID_FIELD, f"max-frame-size is at least {FRAME_BYTES_MIN}")
        self.peer_frame_bytes_max = min(performative.max_frame_size, limits.frame_bytes_max)
        intervals = [limits.idle_timeout_seconds / 2]
        if performative.idle_timeout:
            intervals.append(performative.idle_timeout / 1000 / 2)
        self._beat_seconds = max(min(intervals), 0.01)
        self._schedule_beat()

    def _begin(self, channel: int, begin: Begin) -> None:
        taken = channel in self._sessions and not self._sessions[channel].is_ended
        if taken or channel >= self.backend.limits.sessions_max:
            raise ProtocolError(RESOURCE_LIMIT, f"channel {channel} is taken or too large")
        session = Session(self, channel, begin)
        self._sessions[channel] = session
        session.begin()

    def _session(self, channel: int) -> Session:
        try:
            return self._sessions[channel]
        except KeyError:
            raise ProtocolError(NOT_ALLOWED, f"channel {channel} has no session") from None

    def _schedule_beat(self) -> None:
        self._timers = [self._loop.call_later(self._beat_seconds, self._beat)]

    def _beat(self) -> None:
        """Keep the peer's idle time-out away, and apply our own."""
        now = self._loop.time()
        if not self._holds and now - self._read_at > self.backend.limits.idle_timeout_seconds:
            self.close(Error(CONNECTION_FORCED, "The connection was idle for too long."))
            return
        if now - self._wrote_at >= self._beat_seconds:
            self.write(EMPTY_FRAME)
        self._schedule_beat()

    def _over(self) -> None:
        self._phase = _Phase.OVER
        for timer in self._timers:
            timer.cancel()
        for session in self._sessions.values():
            session.ended()
        self._sessions.clear()
