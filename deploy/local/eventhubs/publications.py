"""What a producer sent: a delivery's payload, cut into encoded events and decoded no further.

A batch (message format 0x80013700) is a message whose data sections each hold one encoded event. Any other
format is one event. The events' own sections are neither read nor checked here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .constructors import BINARY_8, BINARY_32, U32
from .decode import decode_value
from .errors import DecodeError
from .values import Described, Value

BATCH_FORMAT = 0x80013700

HEADER = 0x70
DELIVERY_ANNOTATIONS = 0x71
MESSAGE_ANNOTATIONS = 0x72
PROPERTIES = 0x73
APPLICATION_PROPERTIES = 0x74
AMQP_VALUE = 0x77
"""Descriptors of a message's sections."""

PARTITION_KEY = "x-opt-partition-key"

_DATA_SECTION = b"\x00\x53\x75"


@dataclass(frozen=True, slots=True)
class Publication:
    """The events of one delivery, each still encoded, and the key they were sent with."""

    events: tuple[bytes, ...]
    partition_key: str | None


def read_publication(payload: bytes, message_format: int) -> Publication:
    """The events in `payload`; a batch may hold none. Raises `DecodeError`."""
    annotations, position = _leading(payload)
    key = annotations.get(PARTITION_KEY)
    partition_key = key if isinstance(key, str) else None
    if message_format != BATCH_FORMAT:
        if not payload:
            raise DecodeError("an event without any section")
        return Publication((payload,), partition_key)
    return Publication(tuple(_data_sections(payload, position)), partition_key)


def section_code(payload: bytes, position: int) -> int | None:
    """The descriptor of the section at `position` in its common three-byte form, or `None`."""
    if payload[position : position + 2] != b"\x00\x53" or position + 2 >= len(payload):
        return None
    return payload[position + 2]


def _leading(payload: bytes) -> tuple[dict[Value, Value], int]:
    """The message annotations, and where the sections after the header and annotations start."""
    annotations: dict[Value, Value] = {}
    position = 0
    while section_code(payload, position) in (HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS):
        is_annotations = section_code(payload, position) == MESSAGE_ANNOTATIONS
        section, position = decode_value(payload, position)
        if is_annotations and isinstance(section, Described) and isinstance(section.value, dict):
            annotations = section.value
    return annotations, position


def _data_sections(payload: bytes, position: int) -> list[bytes]:
    """The content of each data section from `position` on; other sections are passed over."""
    events: list[bytes] = []
    total = len(payload)
    while position < total:
        if payload[position : position + 3] != _DATA_SECTION:
            _, position = decode_value(payload, position)
            continue
        try:
            code = payload[position + 3]
            if code == BINARY_32:
                start = position + 8
                position = start + U32.unpack_from(payload, position + 4)[0]
            elif code == BINARY_8:
                start = position + 5
                position = start + payload[position + 4]
            else:
                raise DecodeError(f"a data section cannot hold constructor {code:#04x}")
        except (IndexError, struct.error) as error:
            raise DecodeError("a data section is cut short") from error
        if position > total:
            raise DecodeError("a data section is longer than its message")
        events.append(payload[start:position])
    return events
