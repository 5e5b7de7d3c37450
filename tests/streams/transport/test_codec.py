"""Compiled schemas say what aiokafka's own coding says, byte for byte, and refuse what it refuses."""

import io
from typing import Any

import pytest
from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import (
    ProduceRequest,
    ProduceRequest_v7,
    ProduceResponse_v7,
    ProduceResponse_v8,
)
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Bytes, Int8, Int16, Int32, Int64, Schema, String, UnsignedVarInt32
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.transport.codec import compile_schema

BITS = {Int8: 8, Int16: 16, Int32: 32, Int64: 64}
HOT = (FetchRequest_v11, FetchResponse_v11, ProduceRequest_v7, ProduceResponse_v7)


class WithText(Struct):
    """Arrays that may be absent, of schemas with text, and of plain numbers: more than the hot ones have."""

    SCHEMA = ProduceResponse_v8.SCHEMA


compile_schema(WithText)


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Whatever a field can hold."""
    if isinstance(field, Schema):
        return st.tuples(*map(values_of, field.fields))
    if isinstance(field, Array):
        return st.none() | st.lists(values_of(field.array_of), max_size=4)
    if isinstance(field, String):
        return st.none() | st.text(max_size=12)
    if field is Bytes:
        return st.none() | st.binary(max_size=40)
    bits = BITS[field]
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def by_field(cls: type[Struct], data: bytes) -> list[Any]:
    """aiokafka's own reading, which the compiled one replaces."""
    source = io.BytesIO(data)
    return [field.decode(source) for field in cls.SCHEMA.fields]


def held(found: Struct) -> list[Any]:
    return [found.__dict__[name] for name in found.SCHEMA.names]


@pytest.mark.parametrize("cls", [*HOT, WithText])
@given(data=st.data())
def test_what_is_written_and_read_is_what_aiokafka_writes_and_reads(
    cls: type[Struct], data: st.DataObject
) -> None:
    values = data.draw(values_of(cls.SCHEMA))
    written = cls(*values).encode()
    assert written == cls.SCHEMA.encode(values)
    assert held(cls.decode(written)) == held(cls.decode(io.BytesIO(written))) == by_field(cls, written)


@pytest.mark.parametrize("cls", [*HOT, WithText])
@given(data=st.data())
def test_what_ends_too_early_is_refused(cls: type[Struct], data: st.DataObject) -> None:
    written = cls.SCHEMA.encode(data.draw(values_of(cls.SCHEMA)))
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(ValueError, match=r"\S"):
        cls.decode(written[:cut])


@pytest.mark.parametrize("cls", [FetchResponse_v11, ProduceResponse_v7, WithText])
@given(data=st.binary(max_size=60))
def test_of_any_bytes_both_read_the_same_or_refuse_both(cls: type[Struct], data: bytes) -> None:
    try:
        expected = by_field(cls, data)
    except ValueError:
        with pytest.raises(ValueError, match=r"\S"):
            cls.decode(data)
    else:
        assert held(cls.decode(data)) == expected


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (ProduceResponse_v7, ([("t", [(1, 2**15, 0, 0, 0)])], 0)),
        (ProduceResponse_v7, ([("t", [(1, 0, 0)])], 0)),
        (ProduceResponse_v7, ([("t", None, 3)], 0)),
        (ProduceResponse_v7, ([], 2**31)),
    ],
)
def test_what_does_not_fit_is_refused(cls: type[Struct], values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        cls(*values).encode()


def test_a_long_answer_is_read_as_a_short_one_is() -> None:
    values = (0, 0, 0, [("events", [(3, 0, 9, 9, 0, [], -1, b"x" * 200_000)])])
    written = FetchResponse_v11.SCHEMA.encode(values)
    source = io.BytesIO(b"head" + written)
    source.seek(4)
    assert held(FetchResponse_v11.decode(source)) == by_field(FetchResponse_v11, written)


def test_what_a_worker_asks_is_coded_by_compiled_schemas() -> None:
    versions = {FetchRequest.API_KEY: (0, 99), ProduceRequest.API_KEY: (0, 99)}
    for request in (FetchRequest(1, 1, 1, 0, []), ProduceRequest(None, -1, 1, [])):
        prepared = request.prepare(versions)
        assert type(prepared).encode is not Struct.encode
        assert prepared.RESPONSE_TYPE.decode.__func__ is not Struct.decode.__func__
    assert RequestHeader_v1.encode is not Struct.encode
    assert all(cls.encode is Struct.encode for cls in OffsetRequest._CLASSES)


def test_a_field_that_is_not_known_is_not_compiled() -> None:
    class Flexible(Struct):
        SCHEMA = Schema(("size", UnsignedVarInt32))

    with pytest.raises(TypeError, match="UnsignedVarInt32"):
        compile_schema(Flexible)
