"""What a consumer is given: the event as it was stored, with the annotations that say where it lies.

Only the sections before the properties are looked at. An event that is not a well-formed message is handed
out as it came, with annotations before it: what was stored is what is read.
"""

from __future__ import annotations

import struct

from .constructors import MAP_32, U32
from .decode import decode_value
from .encode import encode_value
from .errors import DecodeError
from .partitions import OFFSET_STRIDE, StoredEvent
from .publications import DELIVERY_ANNOTATIONS, HEADER, MESSAGE_ANNOTATIONS, PARTITION_KEY, section_code
from .values import Described, Symbol

_SEQUENCE = "x-opt-sequence-number"
_OFFSET = "x-opt-offset"
_ENQUEUED = "x-opt-enqueued-time"
_OURS = frozenset({_SEQUENCE, _OFFSET, _ENQUEUED})

_I64 = struct.Struct(">q")
_SECTION_HEAD = bytes((0x00, 0x53, MESSAGE_ANNOTATIONS, MAP_32))
_SEQUENCE_HEAD = encode_value(Symbol(_SEQUENCE)) + b"\x81"  # long
_OFFSET_HEAD = encode_value(Symbol(_OFFSET)) + b"\xa1"  # str8
_ENQUEUED_HEAD = encode_value(Symbol(_ENQUEUED)) + b"\x83"  # timestamp


def deliverable(event: StoredEvent) -> bytes:
    """The encoded message for a consumer."""
    try:
        header, others, rest = _take_apart(event.data)
    except DecodeError:
        header, others, rest = b"", {}, event.data
    if event.partition_key is not None and PARTITION_KEY not in others:
        others[PARTITION_KEY] = encode_value(Symbol(PARTITION_KEY)) + encode_value(event.partition_key)
    offset = str(event.sequence * OFFSET_STRIDE).encode("ascii")
    entries = b"".join(
        (
            *others.values(),
            _SEQUENCE_HEAD,
            _I64.pack(event.sequence),
            _OFFSET_HEAD,
            bytes((len(offset),)),
            offset,
            _ENQUEUED_HEAD,
            _I64.pack(event.enqueued_ms),
        )
    )
    count = 2 * (len(others) + len(_OURS))
    return b"".join(
        (header, _SECTION_HEAD, U32.pack(len(entries) + 4), U32.pack(count), entries, rest),
    )


def _take_apart(data: bytes) -> tuple[bytes, dict[str, bytes], bytes]:
    """What precedes the message annotations, their entries except ours, and the rest of the message."""
    before = b""
    others: dict[str, bytes] = {}
    position = 0
    while (code := section_code(data, position)) in (HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS):
        section, end = decode_value(data, position)
        if code != MESSAGE_ANNOTATIONS:
            before += data[position:end]
        elif isinstance(section, Described) and isinstance(section.value, dict):
            for key, value in section.value.items():
                if key not in _OURS:
                    others[str(key)] = encode_value(key) + encode_value(value)
        position = end
    return before, others, data[position:]
