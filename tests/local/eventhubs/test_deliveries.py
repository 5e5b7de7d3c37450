"""What consumers are given: the stored event, with annotations that say where it lies, and its own kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.deliveries import deliverable
from farshore.local.eventhubs.encode import encode_value
from farshore.local.eventhubs.partitions import OFFSET_STRIDE, StoredEvent
from farshore.local.eventhubs.publications import BATCH_FORMAT, read_publication
from farshore.local.eventhubs.values import Described, Long, Symbol, Timestamp, ULong, Value

HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS, PROPERTIES, DATA = 0x70, 0x71, 0x72, 0x73, 0x75


def section(code: int, value: Value) -> bytes:
    return encode_value(Described(ULong(code), value))


def sections(message: bytes) -> list[tuple[Value, Value]]:
    found = []
    position = 0
    while position < len(message):
        value, position = decode_value(message, position)
        assert isinstance(value, Described)
        found.append((value.descriptor, value.value))
    return found


def ours(sequence: int, enqueued_ms: int) -> dict[Value, Value]:
    return {
        Symbol("x-opt-sequence-number"): Long(sequence),
        Symbol("x-opt-offset"): str(sequence * OFFSET_STRIDE),
        Symbol("x-opt-enqueued-time"): Timestamp(enqueued_ms),
    }


@given(st.integers(0, 2**60 // OFFSET_STRIDE), st.integers(0, 2**62), st.binary(max_size=400))
def test_an_event_without_annotations_gets_its_place_before_everything_else(
    sequence: int, enqueued_ms: int, body: bytes
) -> None:
    data = section(PROPERTIES, ["id"]) + section(DATA, body)
    message = deliverable(StoredEvent(sequence, enqueued_ms, None, data))
    assert sections(message) == [
        (ANNOTATIONS, ours(sequence, enqueued_ms)),
        (PROPERTIES, ["id"]),
        (DATA, body),
    ]


def test_an_events_own_annotations_stay_and_an_older_place_is_replaced() -> None:
    own: dict[Value, Value] = {Symbol("x-opt-partition-key"): "press-17", Symbol("shift"): Symbol("night")}
    data = b"".join(
        (
            section(HEADER, [True]),
            section(DELIVERY_ANNOTATIONS, {Symbol("way"): "home"}),
            section(ANNOTATIONS, {**own, **ours(3, 4)}),
            section(DATA, b"body"),
        )
    )
    message = deliverable(StoredEvent(7, 8, "press-17", data))
    assert sections(message) == [
        (HEADER, [True]),
        (DELIVERY_ANNOTATIONS, {Symbol("way"): "home"}),
        (ANNOTATIONS, {**own, **ours(7, 8)}),
        (DATA, b"body"),
    ]


def test_the_key_of_a_batch_is_on_events_that_do_not_carry_it() -> None:
    message = deliverable(StoredEvent(0, 0, "press-17", section(DATA, b"body")))
    annotations = sections(message)[0][1]
    assert annotations == {Symbol("x-opt-partition-key"): "press-17", **ours(0, 0)}


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x53\x72", b"\x00\x53\x72\xc1\xff", b"no message at all"]
)
def test_what_is_no_message_is_handed_out_as_it_came(data: bytes) -> None:
    message = deliverable(StoredEvent(1, 2, None, data))
    value, position = decode_value(message)
    assert value == Described(ULong(ANNOTATIONS), ours(1, 2))
    assert message[position:] == data


@given(st.lists(st.binary(max_size=600), max_size=20), st.one_of(st.none(), st.text(max_size=20)))
def test_a_batch_is_cut_into_exactly_the_events_it_holds(events: list[bytes], key: str | None) -> None:
    head = section(HEADER, [True]) + section(ANNOTATIONS, {Symbol("x-opt-partition-key"): key})
    # The SDK puts delivery annotations after the body.
    tail = section(DELIVERY_ANNOTATIONS, {Symbol("way"): "home"})
    payload = head + b"".join(section(DATA, event) for event in events) + tail
    publication = read_publication(payload, BATCH_FORMAT)
    assert publication.events == tuple(events)
    assert publication.partition_key == key
