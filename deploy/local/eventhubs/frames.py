"""Frames: cutting them out of a byte stream, and building them.

A frame is size (4 bytes, itself included), data offset (in words of 4 bytes), type, channel, an extended
header that is skipped, and a body. `FrameReader` holds at most one unfinished frame of `frame_bytes_max`
besides the last chunk read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .composites import Composite, encode_composite, from_value
from .decode import decode_value
from .errors import DECODE, FRAMING, DecodeError, ProtocolError
from .performatives import PERFORMATIVES
from .values import Described

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
HEADER_BYTES = 8

AMQP_FRAME = 0
SASL_FRAME = 1
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"
"""Carries nothing and keeps an idle connection alive."""

_HEAD = struct.Struct(">IBBH")
_DOFF = 2
# A transfer with every field in fixed width: handle, delivery id, tag, format 0, settled, more, five nulls.
_TRANSFER = struct.Struct(">3sBBBBIBIBB4sBBB5s")
_TRANSFER_BODY_BYTES = _TRANSFER.size - 5  # after the descriptor, the list's constructor and its size
TRANSFER_FRAME_OVERHEAD = _HEAD.size + _TRANSFER.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's type, channel and body; an empty body is a keep-alive."""

    kind: int
    channel: int
    body: bytes


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Append what was read."""
        # What was consumed is cut off once per chunk, not once per frame.
        del self._buffer[: self._position]
        self._position = 0
        self._buffer += data

    def take_header(self) -> bytes | None:
        """The next 8 bytes as a protocol header, or `None` until they are there."""
        if len(self._buffer) - self._position < HEADER_BYTES:
            return None
        start = self._position
        self._position += HEADER_BYTES
        return bytes(self._buffer[start : self._position])

    def take_frame(self) -> Frame | None:
        """The next frame, or `None` until it is complete. Raises `ProtocolError` for an impossible head."""
        start = self._position
        if len(self._buffer) - start < _HEAD.size:
            return None
        size, doff, kind, channel = _HEAD.unpack_from(self._buffer, start)
        if size < _HEAD.size or doff < _DOFF or 4 * doff > size:
            raise ProtocolError(FRAMING, f"a frame of {size} bytes cannot have data offset {doff}")
        if size > self._frame_bytes_max:
            raise ProtocolError(FRAMING, f"a frame of {size} bytes exceeds {self._frame_bytes_max}")
        if len(self._buffer) - start < size:
            return None
        self._position = start + size
        return Frame(kind, channel, bytes(memoryview(self._buffer)[start + 4 * doff : start + size]))


def read_performative(body: bytes) -> tuple[Composite, bytes]:
    """A frame's performative and the payload after it. Raises `ProtocolError`."""
    try:
        value, position = decode_value(body)
    except DecodeError as error:
        raise ProtocolError(DECODE, str(error)) from error
    descriptor = value.descriptor if isinstance(value, Described) else None
    kind = PERFORMATIVES.get(descriptor) if isinstance(descriptor, int) else None
    if kind is None:
        raise ProtocolError(DECODE, f"{descriptor!r} describes no performative")
    return from_value(kind, value), body[position:]


def build_frame(channel: int, performative: Composite, *, kind: int = AMQP_FRAME) -> bytes:
    """The frame of one performative without payload."""
    body = encode_composite(performative)
    return _HEAD.pack(_HEAD.size + len(body), _DOFF, kind, channel) + body


def transfer_frame(
    channel: int, handle: int, delivery_id: int, payload: bytes, *, settled: bool, more: bool
) -> bytes:
    """The frame of one transfer, the delivery id being its tag too.

    Laid out by hand: reading back costs one transfer per event, and the general encoder takes five times as
    long.
    """
    head = _HEAD.pack(TRANSFER_FRAME_OVERHEAD + len(payload), _DOFF, AMQP_FRAME, channel)
    fields = _TRANSFER.pack(
        b"\x00\x53\x14",
        0xC0,
        _TRANSFER_BODY_BYTES,
        11,
        0x70,
        handle,
        0x70,
        delivery_id,
        0xA0,
        4,
        struct.pack(">I", delivery_id),
        0x43,
        0x41 if settled else 0x42,
        0x41 if more else 0x42,
        b"\x40" * 5,
    )
    return head + fields + payload
