"""Layouts, and the agreement of the fast path with the careful one, whatever stands in a batch."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshore.schemas.manifest import Manifest
from farshore.schemas.reasons import DeadLetterReason
from farshore.streams.scoring.clean import CleanReader, as_list
from farshore.streams.scoring.decoding import Decoded, EventDecoder
from farshore.streams.scoring.generic_reader import GenericReader
from farshore.streams.scoring.native_reader import NativeReader, is_built, native_reader
from farshore.streams.scoring.typed_reader import TypedReader, typed_reader

ABSENT = object()
GOOD = b'{"device":"d","time":1,"readings":{"temperature":1,"pressure":2.5,"vibration":0}}'
Parts = Mapping[str, Any]


def without_absent(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def by_name(parts: Parts) -> object:
    readings = {"temperature": parts["t"], "pressure": parts["p"], "vibration": parts["v"]}
    return without_absent(
        {"device": parts["device"], "time": parts["time"], "readings": without_absent(readings), "more": [1]}
    )


def in_order(parts: Parts) -> object:
    row = [value for value in (parts["t"], parts["p"], parts["v"]) if value is not ABSENT]
    return without_absent({"device": parts["device"], "time": parts["time"], "readings": row})


def flat(parts: Parts) -> object:
    return without_absent(
        {
            "id": parts["device"],
            "ts": parts["time"],
            "temperature": parts["t"],
            "pressure": parts["p"],
            "vibration": parts["v"],
        }
    )


def nested(parts: Parts) -> object:
    meta = without_absent({"name": parts["device"], "when": parts["time"]})
    sensors = [without_absent({"v": parts["p"]}), parts["v"] if parts["v"] is not ABSENT else None]
    return without_absent({"meta": meta, "a": without_absent({"b/c": parts["t"]}), "sensors": sensors})


def renamed(parts: Parts) -> object:
    return without_absent(
        {
            "device": parts["device"],
            "time": parts["time"],
            "d": without_absent({"T": parts["t"], "P": parts["p"], "": parts["v"]}),
        }
    )


LAYOUTS: dict[str, tuple[dict[str, object], Callable[[Parts], object]]] = {
    "object by name": ({}, by_name),
    "array in order": ({}, in_order),
    "flat": ({"device": "/id", "time": "/ts", "features": ""}, flat),
    "nested": (
        {
            "device": "/meta/name",
            "time": "/meta/when",
            "features": {"temperature": "/a/b~1c", "pressure": "/sensors/0/v", "vibration": "/sensors/1"},
        },
        nested,
    ),
    "other names in one object": (
        {"features": {"temperature": "/d/T", "pressure": "/d/P", "vibration": "/d/"}},
        renamed,
    ),
    "device from the key": ({"device": {"from": "record-key"}}, by_name),
    "time in seconds": ({"time_unit": "s"}, by_name),
}
INPUTS: dict[str, dict[str, object]] = {
    "float32": {"dtype": "float32"},
    "float64": {"dtype": "float64"},
    "int64": {"dtype": "int64"},
    "scaled to float16": {"dtype": "float16", "scaling": {"mean": [1, 2, 3], "std": [0.5, 1e-3, 10]}},
    "scaled to int8": {"dtype": "int8", "scaling": {"mean": 0, "std": 2}},
    "scaled to int64": {"dtype": "int64", "scaling": {"mean": -1, "std": 1}},
}

GOOD_NUMBERS = st.integers(-100, 100) | st.floats(-100, 100)
ODD_VALUES = st.sampled_from(
    [
        ABSENT,
        None,
        True,
        "71.3",
        [],
        {},
        [1],
        {"v": 1},
        1e39,
        -3.5e38,
        1e308,
        65_520,
        2**63,
        2**63 - 1,
        2**64,
        0.5,
        -0.0,
    ]
)
GOOD_TIMES = st.integers(0, 1_690_000_000)
ODD_TIMES = st.sampled_from(
    [ABSENT, None, True, -1, 1e308, 4_102_444_800_000, 0.5, "2023-07-22T04:26:40.5Z", "yesterday", "", [], {}]
)
GOOD_DEVICES = st.sampled_from(["pump-17", "ü", "x" * 256])
ODD_DEVICES = st.sampled_from([ABSENT, None, "", "x" * 257, 17, [], {}, True])
RAW = st.sampled_from(
    [
        None,
        b"",
        b" ",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"\xff",
        b"[" * 2_000,
        b'{"time":NaN}',
        b"{}" * 600,
    ]
)
KEYS = st.sampled_from([b"k", b"k", b"k", None, b"", b"\xff", b"x" * 257])


def parts(numbers: st.SearchStrategy[object], times: object, devices: object) -> st.SearchStrategy[Parts]:
    return st.fixed_dictionaries(
        {"t": numbers, "p": numbers, "v": numbers, "time": times, "device": devices}  # type: ignore[dict-item]
    )


GOOD_PARTS = parts(GOOD_NUMBERS, GOOD_TIMES, GOOD_DEVICES)
ODD_PARTS = parts(GOOD_NUMBERS | ODD_VALUES, GOOD_TIMES | ODD_TIMES, GOOD_DEVICES | ODD_DEVICES)


def assert_same(first: Decoded, second: Decoded) -> None:
    assert list(first.indices) == list(second.indices)
    assert first.devices == second.devices
    assert first.times_ms == second.times_ms
    # Whole numbers beyond 2**53 lose digits in a reader for floating-point models; the matrix has them alike.
    assert list(map(float, as_list(first.numbers))) == list(map(float, as_list(second.numbers)))
    assert first.matrix.dtype == second.matrix.dtype
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.rejections == second.rejections


@pytest.fixture(scope="module")
def decoders(manifest_of: Callable[..., Manifest]) -> dict[tuple[str, str], EventDecoder]:
    return {
        (layout, kind): EventDecoder(
            manifest_of(event, input={"name": "x", "shape": ["batch", 3], **INPUTS[kind]}),
            event_bytes_max=1_000,
        )
        for layout, (event, _) in LAYOUTS.items()
        for kind in INPUTS
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_a_mixed_batch_decodes_as_its_events_do_one_by_one(
    decoders: dict[tuple[str, str], EventDecoder], layout: str, data: st.DataObject
) -> None:
    decoder = decoders[layout, data.draw(st.sampled_from(sorted(INPUTS)))]
    write = LAYOUTS[layout][1]
    encoded = (GOOD_PARTS | ODD_PARTS).map(lambda drawn: json.dumps(write(drawn)).encode())
    values = data.draw(st.lists(encoded | RAW, max_size=8)) * data.draw(st.sampled_from([1, 1, 1, 12]))
    keys = data.draw(st.lists(KEYS, min_size=len(values), max_size=len(values)))

    decoded = decoder.decode(values, keys)
    assert_same(decoded, decoder.decode_carefully(values, keys))

    # Accepted and rejected make up the batch, and a row's place and companions change nothing of it.
    rejected = [rejection.index for rejection in decoded.rejections]
    assert sorted([*decoded.indices, *rejected]) == list(range(len(values)))
    assert list(decoded.indices) == sorted(decoded.indices)
    assert rejected == sorted(rejected)
    for row, index in enumerate(decoded.indices):
        alone = decoder.decode([values[index]], [keys[index]])
        np.testing.assert_array_equal(alone.matrix, decoded.matrix[row : row + 1])
        assert (alone.devices, alone.times_ms) == ([decoded.devices[row]], [decoded.times_ms[row]])
    assert np.isfinite(decoded.matrix.astype(np.float64)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(batch=st.lists(GOOD_PARTS, min_size=1, max_size=20))
def test_a_clean_batch_takes_the_fast_path_and_agrees_with_the_careful_one(
    decoders: dict[tuple[str, str], EventDecoder], layout: str, batch: list[Parts]
) -> None:
    decoder = decoders[layout, "float64"]
    values = [json.dumps(LAYOUTS[layout][1](event)).encode() for event in batch]
    keys = [b"k"] * len(batch)
    quick = decoder.decode_clean(values, keys)
    assert quick is not None
    assert_same(quick, decoder.decode_carefully(values, keys))
    assert quick.matrix.tolist() == [[event["t"], event["p"], event["v"]] for event in batch]
    factor = 1_000 if layout == "time in seconds" else 1
    assert quick.times_ms == [event["time"] * factor for event in batch]
    from_key = layout == "device from the key"
    assert quick.devices == ["k" if from_key else event["device"] for event in batch]


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 64, 100, 1_724, 1_725, 4_000])
def test_one_bad_event_is_the_only_one_missing_from_a_batch_of_any_length(
    decoders: dict[tuple[str, str], EventDecoder], rows: int
) -> None:
    decoder = decoders["array in order", "float64"]
    values = [b'{"device":"d","time":%d,"readings":[%d,0,0]}' % (row, row) for row in range(rows)]
    for bad in {0, rows // 2, min(1_724, rows - 1), rows - 1}:
        decoded = decoder.decode([*values[:bad], b"{", *values[bad + 1 :]], [None] * rows)
        assert [rejection.index for rejection in decoded.rejections] == [bad]
        assert decoded.times_ms == [row for row in range(rows) if row != bad]
        assert decoded.matrix[:, 0].tolist() == decoded.times_ms


@settings(max_examples=25)
@given(data=st.data())
def test_a_long_batch_with_bad_events_anywhere_decodes_as_its_events_do_one_by_one(
    decoders: dict[tuple[str, str], EventDecoder], data: st.DataObject
) -> None:
    decoder = decoders["array in order", "float64"]
    assert decoder.part_rows == 1_724
    rows = data.draw(st.integers(1_500, 3_700))
    values = [b'{"device":"d","time":%d,"readings":[%d,0.1,0]}' % (row, row) for row in range(rows)]
    for bad, value in data.draw(st.dictionaries(st.integers(0, rows - 1), RAW, max_size=5)).items():
        values[bad] = value
    keys = [None] * rows
    assert_same(decoder.decode(values, keys), decoder.decode_carefully(values, keys))


def test_names_with_slashes_spaces_and_digits_are_read_as_they_are(
    manifest_of: Callable[..., Manifest],
) -> None:
    names = ["Volume Flow RateRMS", "0", "a/b~c"]
    manifest = manifest_of({"device": "/id", "time": "/t", "features": ""}, features=names)
    decoder = EventDecoder(manifest, event_bytes_max=1_000)
    value = json.dumps({"id": "d", "t": 5, "a/b~c": 3, "0": 2, "Volume Flow RateRMS": 1}).encode()
    decoded = decoder.decode_clean([value], [None])
    assert decoded is not None
    assert decoded.matrix.tolist() == [[1, 2, 3]]


def test_a_pointer_into_an_object_whose_members_are_digits_finds_them(
    manifest_of: Callable[..., Manifest],
) -> None:
    where = {"temperature": "/s/0", "pressure": "/s/1", "vibration": "/s/2"}
    decoder = EventDecoder(manifest_of({"features": where}), event_bytes_max=1_000)
    as_object = b'{"device":"d","time":0,"s":{"0":1,"1":2,"2":3}}'
    as_array = b'{"device":"d","time":0,"s":[1,2,3]}'
    assert decoder.decode([as_object, as_array], [None] * 2).matrix.tolist() == [[1, 2, 3]] * 2


def test_an_array_is_no_event_even_where_pointers_would_lead_into_it(
    manifest_of: Callable[..., Manifest],
) -> None:
    where = {"temperature": "/2", "pressure": "/3", "vibration": "/4"}
    manifest = manifest_of({"device": "/0", "time": "/1", "features": where})
    decoder = EventDecoder(manifest, event_bytes_max=1_000)
    values = [b'["d",0,1,2,3]', b'{"0":"d","1":0,"2":1,"3":2,"4":3}', b'["d",0,1,2,3]']
    decoded = decoder.decode(values[:1], [None])
    assert [rejection.reason for rejection in decoded.rejections] == ["not-object"]
    assert list(decoder.decode(values, [None] * 3).indices) == [1]


def test_a_scaled_value_just_beyond_the_largest_whole_number_does_not_wrap(
    manifest_of: Callable[..., Manifest],
) -> None:
    # 2**63 - 1 is no float64; the nearest one is 2**63, which would become the least int64.
    tensor = {"name": "x", "dtype": "int64", "shape": ["batch", 3], "scaling": {"mean": 0, "std": 1}}
    decoder = EventDecoder(manifest_of(input=tensor), event_bytes_max=1_000)
    event = b'{"device":"d","time":0,"readings":[%d,0,0]}'
    values = [event % 2**63, event % (2**63 - 1), event % (2**63 - 1024)]
    decoded = decoder.decode(values, [None] * 3)
    assert [(item.index, item.reason) for item in decoded.rejections] == [
        (0, "out-of-range"),
        (1, "out-of-range"),
    ]
    assert decoded.matrix[:, 0].tolist() == [2**63 - 1024]


def test_a_model_of_one_feature_is_read_from_every_layout(manifest_of: Callable[..., Manifest]) -> None:
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 1]}
    for where, value in (
        ("/readings", b'{"device":"d","time":0,"readings":{"level":4}}'),
        ("/readings", b'{"device":"d","time":0,"readings":[4]}'),
        ({"level": "/level"}, b'{"device":"d","time":0,"level":4}'),
    ):
        manifest = manifest_of({"features": where}, features=["level"], input=tensor)
        decoded = EventDecoder(manifest, event_bytes_max=1_000).decode_clean([value], [None])
        assert decoded is not None
        assert decoded.matrix.tolist() == [[4.0]]


def with_readers(decoder: EventDecoder, *readers: CleanReader | None) -> EventDecoder:
    other = copy.copy(decoder)
    other._readers = [reader for reader in readers if reader is not None]
    return other


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_all_quick_readers_judge_alike(
    manifest_of: Callable[..., Manifest], layout: str, data: st.DataObject
) -> None:
    event, write = LAYOUTS[layout]
    manifest = manifest_of(event)
    whole = EventDecoder(manifest, event_bytes_max=1_000)
    native, typed, generic = native_reader(manifest), typed_reader(manifest), GenericReader(manifest)
    encoded = (GOOD_PARTS | ODD_PARTS).map(lambda drawn: json.dumps(write(drawn)).encode())
    values = data.draw(st.lists(encoded | RAW, max_size=8))
    keys = data.draw(st.lists(KEYS, min_size=len(values), max_size=len(values)))
    decoded = whole.decode(values, keys)
    for readers in ((native, typed), (native, generic), (typed,), (generic,)):
        assert_same(decoded, with_readers(whole, *readers).decode(values, keys))


@pytest.mark.parametrize("build", [native_reader, typed_reader] if is_built() else [typed_reader])
def test_usual_layouts_are_read_typed_and_others_are_not(
    manifest_of: Callable[..., Manifest], build: Callable[[Manifest], CleanReader | None]
) -> None:
    for layout, (event, _) in LAYOUTS.items():
        assert (build(manifest_of(event)) is None) == (layout == "nested"), layout
    whole = manifest_of({}, input={"name": "x", "shape": ["batch", 3], "dtype": "int64"})
    assert build(whole) is None, "whole numbers beyond 2**53 would lose digits as floats"


@pytest.mark.parametrize(
    "values",
    [
        # Each pair yields as many documents as values, at other boundaries than those between the values.
        [b'{"a":1}\n{"a":2}', b'{"z":[1', b"2]}"],
        [b'{"z":[{}', b"{}]}"],
        [b'{"z":"}', b'{"}'],
        [GOOD + b"\n" + GOOD, GOOD[:-1], b"}"],
        [GOOD + GOOD, b""],
        [GOOD + b"\n", GOOD + b" "],
    ],
)
def test_no_value_swallows_its_neighbour_or_passes_for_two(
    manifest_of: Callable[..., Manifest], values: list[bytes]
) -> None:
    decoder = EventDecoder(manifest_of(), event_bytes_max=1_000)
    together = decoder.decode([GOOD, *values, GOOD], [None] * (len(values) + 2))
    alone = [decoder.decode([value], [None]) for value in values]
    accepted = [0, *(index for index, one in enumerate(alone, 1) if not one.rejections), len(values) + 1]
    assert list(together.indices) == accepted
    assert len(together.rejections) == len(values) + 2 - len(accepted)


def test_an_event_is_judged_alike_in_every_company(manifest_of: Callable[..., Manifest]) -> None:
    # The two JSON readers differ on members that nobody asked for: one looks at their numbers, one does not.
    odd = GOOD[:-1] + b', "other": 1e400}'
    decoder = EventDecoder(manifest_of(), event_bytes_max=1_000)
    alone = decoder.decode([odd], [None])
    beside_good = decoder.decode([GOOD, odd], [None, None])
    beside_bad = decoder.decode([b"{", odd], [None, None])
    assert len(alone.indices) == len(beside_good.indices) - 1 == len(beside_bad.indices)


def test_bytes_that_are_no_utf8_are_refused_in_members_nobody_asked_for(
    manifest_of: Callable[..., Manifest],
) -> None:
    decoder = EventDecoder(manifest_of(), event_bytes_max=1_000)
    decoded = decoder.decode([GOOD, GOOD[:-1] + b', "other": "\xff"}'], [None, None])
    assert [rejection.reason for rejection in decoded.rejections] == [DeadLetterReason.NOT_UTF8]
    assert [type(reader) for reader in decoder._readers] == [NativeReader] * is_built() + [TypedReader]


@pytest.mark.parametrize("name", ['a "hot" bearing', "C:\\pump\\flow", "two\nlines", "tab\t"])
def test_names_with_signs_that_json_escapes_are_names_like_others(
    manifest_of: Callable[..., Manifest], name: str
) -> None:
    """msgspec knows no such member; a package that had one ended its worker at start with a traceback."""
    manifest = manifest_of(features=[name, "pressure", "vibration"])
    event = {"device": "d", "time": 1, "readings": {name: 1.5, "pressure": 2.5, "vibration": 0.0}}
    decoded = EventDecoder(manifest, event_bytes_max=1_000).decode([json.dumps(event).encode()], [None])
    assert not decoded.rejections
    assert decoded.matrix.tolist() == [[1.5, 2.5, 0.0]]
