"""The AMQP codec: decode and encode are inverse, and malformed bytes are a DecodeError and nothing else."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.local.eventhubs.constructors import DEPTH_MAX
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.encode import encode_value
from farshore.local.eventhubs.errors import DecodeError
from farshore.local.eventhubs.values import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Value,
)


def whole(kind: type[int], bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high).map(kind)


UNSIGNED = [(UByte, 8), (UShort, 16), (UInt, 32), (ULong, 64)]
SIGNED = [(Byte, 8), (Short, 16), (Int, 32), (Long, 64), (Timestamp, 64)]
ASCII = st.text(st.characters(max_codepoint=127))
SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    *(whole(kind, bits, signed=False) for kind, bits in UNSIGNED),
    *(whole(kind, bits, signed=True) for kind, bits in SIGNED),
    st.floats(allow_nan=False),
    st.floats(width=32, allow_nan=False).map(Float32),
    st.text(max_size=300),
    st.binary(max_size=300),
    ASCII.map(Symbol),
    st.uuids(),
    st.characters(exclude_categories=["Cs"]).map(Char),
    st.sampled_from([4, 8, 16])
    .flatmap(lambda size: st.binary(min_size=size, max_size=size))
    .map(DecimalBits),
)
ARRAYS = st.one_of(
    st.lists(whole(UInt, 32, signed=False)).map(lambda items: Array(0x70, tuple(items))),
    st.lists(whole(Int, 8, signed=True)).map(lambda items: Array(0x54, tuple(items))),
    st.lists(ASCII.map(Symbol)).map(lambda items: Array(0xB3, tuple(items))),
    st.lists(st.text(max_size=20)).map(lambda items: Array(0xB1, tuple(items))),
    st.lists(st.binary(max_size=20)).map(lambda items: Array(0xA0, tuple(items))),
    st.lists(st.uuids()).map(lambda items: Array(0x98, tuple(items))),
    st.lists(st.booleans()).map(lambda items: Array(0x56, tuple(items))),
    st.integers(0, 20).map(lambda count: Array(0x41, (True,) * count)),
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(SIMPLE, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(ASCII.map(Symbol), inner),
        st.builds(Described, whole(ULong, 64, signed=False), inner),
    ),
    max_leaves=20,
)


def same(left: Value, right: Value) -> bool:
    """Equal in type too, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return same(list(left.keys()), list(right.keys())) and same(list(left.values()), list(right.values()))
    if isinstance(left, Described) and isinstance(right, Described):
        return same(left.descriptor, right.descriptor) and same(left.value, right.value)
    return left == right


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same_value_and_type(value: Value) -> None:
    encoded = encode_value(value)
    decoded, end = decode_value(encoded)
    assert same(decoded, value)
    assert end == len(encoded)


@given(VALUES, st.binary(max_size=8), st.binary(max_size=8))
def test_a_value_is_found_in_the_midst_of_other_bytes(value: Value, before: bytes, after: bytes) -> None:
    encoded = encode_value(value)
    decoded, end = decode_value(before + encoded + after, len(before))
    assert same(decoded, value)
    assert end == len(before) + len(encoded)


@given(VALUES, st.data())
def test_a_value_cut_short_is_a_decode_error(value: Value, data: st.DataObject) -> None:
    encoded = encode_value(value)
    with pytest.raises(DecodeError):
        decode_value(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_a_decode_error(data: bytes) -> None:
    try:
        _, end = decode_value(data)
    except DecodeError:
        return
    assert 0 < end <= len(data)


@given(VALUES, st.data())
def test_a_flipped_byte_decodes_or_is_a_decode_error(value: Value, data: st.DataObject) -> None:
    encoded = bytearray(encode_value(value))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_value(bytes(encoded))
    except DecodeError:
        return


def test_the_specifications_own_examples_are_read() -> None:
    # Part 1, figures of section 1.6: the short and the long form of the same value.
    assert decode_value(b"\x70\x00\x00\x00\x05")[0] == decode_value(b"\x52\x05")[0] == UInt(5)
    assert decode_value(b"\x56\x01")[0] is True
    assert decode_value(b"\x45") == ([], 1)
    assert decode_value(b"\xa3\x04AMQP") == (Symbol("AMQP"), 6)
    assert decode_value(b"\xe0\x04\x02\x50\x07\x08") == (Array(0x50, (UByte(7), UByte(8))), 6)
    identity = uuid.UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
    assert decode_value(b"\x98" + bytes(range(16)))[0] == identity


def test_small_numbers_take_their_short_form() -> None:
    assert encode_value(UInt(0)) == b"\x43"
    assert encode_value(ULong(0x75)) == b"\x53\x75"
    assert encode_value(Int(-1)) == b"\x54\xff"
    assert encode_value(300) == b"\x81" + (300).to_bytes(8, "big")


def test_an_empty_list_is_written_with_size_and_count_because_the_sdk_asks_for_it() -> None:
    assert encode_value([]) == b"\xc0\x01\x00"


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range for UShort"):
        encode_value(UShort(65_536))


def test_nesting_beyond_the_limit_is_a_decode_error_and_no_stack_overflow() -> None:
    with pytest.raises(DecodeError, match="nest"):
        decode_value(b"\x00\x43" * 100_000)
    deep: Value = None
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    with pytest.raises(DecodeError, match="nest"):
        decode_value(encode_value(deep))


def test_an_array_of_a_billion_nothings_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="more items"):
        decode_value(b"\xf0" + (5).to_bytes(4, "big") + (10**9).to_bytes(4, "big") + b"\x40")
