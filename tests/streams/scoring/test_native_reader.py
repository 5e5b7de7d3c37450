"""The reader in C against the ones in Python: it reads what they read, bit for bit, or leaves it to them."""

from __future__ import annotations

import gc
import json
import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.schemas.manifest import Manifest
from farshore.streams.scoring import native_reader as module
from farshore.streams.scoring.clean import CleanReader
from farshore.streams.scoring.decoding import EventDecoder
from farshore.streams.scoring.generic_reader import GenericReader
from farshore.streams.scoring.native_reader import PURE_PYTHON, native_reader
from farshore.streams.scoring.typed_reader import TypedReader, typed_reader

from ...fuzz_bytes import NUMBERS, FuzzedRecords, corpus_values
from .native import GOOD, SEED, bits, needs_extension, one, reader_of
from .test_decoding import KEYS, LAYOUTS
from .test_fuzz import fuzzing, value

pytestmark = needs_extension


@pytest.fixture(scope="module")
def reader(manifest_of: Callable[..., Manifest]) -> CleanReader:
    return reader_of(manifest_of())


def test_a_switch_in_the_environment_keeps_it_out_of_use(
    manifest_of: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = EventDecoder(manifest_of(), event_bytes_max=1_000)
    monkeypatch.setenv(PURE_PYTHON, "1")
    without = EventDecoder(manifest_of(), event_bytes_max=1_000)
    assert [type(reader) for reader in without._readers] == [TypedReader]
    assert len(with_it._readers) == 2


def test_without_the_extension_the_others_serve(
    manifest_of: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_rows", None)
    decoder = EventDecoder(manifest_of(), event_bytes_max=1_000)
    assert [type(reader) for reader in decoder._readers] == [TypedReader]
    assert decoder.decode([GOOD], [None]).matrix.tolist() == [[20.25, 3, -0.5]]


# ---- documents ----

READ = {
    "as it is": GOOD,
    "space everywhere": GOOD.replace(b":", b" \t: \n")
    .replace(b",", b"\r , ")
    .replace(b"{", b" {  ")
    .replace(b"}", b" } "),
    "another order": b'{"readings":{"vibration":-0.5,"temperature":20.25,"pressure":3},'
    b'"time":1690000000123,"device":"pump-1"}',
    "members nobody asked for": GOOD[:-1]
    + b',"":{"device":[1,-2.5e-3,true,false,null,{"readings":{}}],"a":{}},"b":[],'
    b'"c":"\\u00e9\\n\\/\\"\\\\\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"}',
    "an array": b'{"device":"pump-1","time":1690000000123,"readings":[20.25,3,-0.5]}',
    "depth": GOOD[:-1] + b',"more":' + b"[" * 60 + b"]" * 60 + b"}",
    "long names": GOOD[:-1] + b',"%s":"%s"}' % (b"n" * 5_000, b"v" * 5_000),
    "a name that begins like one": GOOD[:-1] + b',"devic":1,"devices":2,"tim":3,"Time":4}',
}
LEFT = {
    "cut off": GOOD[:-1],
    "something after": GOOD + b"x",
    "a NUL after": GOOD + b"\x00",
    "two": GOOD + GOOD,
    "empty": b"",
    "an array of it": b"[" + GOOD + b"]",
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "a comma before the end": GOOD[:-1] + b",}",
    "a comma before an array's end": GOOD[:-1] + b',"a":[1,]}',
    "no comma": GOOD.replace(b",", b" ", 1),
    "no colon": GOOD.replace(b":", b" ", 1),
    "a control character in a name": GOOD[:-1] + b',"a\n":1}',
    "a control character in a text": GOOD[:-1] + b',"a":"aaaaaaaaaa\x1faaaaaaaaaa"}',
    "a device twice": GOOD[:-1] + b',"device":"pump-2"}',
    "readings twice": GOOD[:-1] + b',"readings":{}}',
    "readings twice, the first empty": b'{"readings":{},' + GOOD[1:],
    "a feature twice": GOOD.replace(b'"pressure":3', b'"pressure":3,"pressure":3'),
    "an escape in a name": GOOD.replace(b'"device"', b'"d\\u0065vice"'),
    "an escape in another name": GOOD[:-1] + b',"m\\u0065":1}',
    "an escape in a device": GOOD.replace(b"pump-1", b"pump\\u002d1"),
    "half a pair": GOOD[:-1] + b',"a":"\\ud800"}',
    "a bad escape": GOOD[:-1] + b',"a":"\\x41"}',
    "an escape cut off": GOOD[:-1] + b',"a":"\\u00',
    "a feature missing": GOOD.replace(b'"pressure":3,', b""),
    "a feature of text": GOOD.replace(b"20.25", b'"20.25"'),
    "too few": b'{"device":"d","time":0,"readings":[1,2]}',
    "too many": b'{"device":"d","time":0,"readings":[1,2,3,4]}',
    "no device": GOOD.replace(b"device", b"Device"),
    "device empty": GOOD.replace(b"pump-1", b""),
    "device long": GOOD.replace(b"pump-1", b"x" * 257),
    "device long in UTF-8": GOOD.replace(b"pump-1", "ü".encode() * 257),
    "time of text": GOOD.replace(b"1690000000123", b'"2023-07-22T04:26:40Z"'),
    "time with a fraction": GOOD.replace(b"1690000000123", b"1690000000123.0"),
    "time negative": GOOD.replace(b"1690000000123", b"-1"),
    "time of minus nothing": GOOD.replace(b"1690000000123", b"-0"),
    "time in 2100": GOOD.replace(b"1690000000123", b"4102444800000"),
    "time long": GOOD.replace(b"1690000000123", b"18446744073709551617"),
    "deep": GOOD[:-1] + b',"more":' + b"[" * 70 + b"]" * 70 + b"}",
    "words": GOOD[:-1] + b',"more":nul}',
    "words that go on": GOOD[:-1] + b',"more":nulll}',
    "a large number aside": GOOD[:-1] + b',"more":1e308}',
}
BROKEN_UTF8 = (
    b"\xff|\x80|\xc0\x80|\xc1\xbf|\xe0\x80\x80|\xe0\x9f\xbf|\xed\xa0\x80|\xed\xbf\xbf|\xf0\x80\x80\x80|\xf0\x8f\xbf\xbf|"
    b"\xf4\x90\x80\x80|\xf5\x80\x80\x80|\xc3|\xe2\x82|\xf0\x9f\x98|\xc3a|\xe2a\xac|\xe2\x82a|\xf0\x9f\x98a"
).split(b"|")


@pytest.mark.parametrize("name", READ)
def test_it_reads(reader: CleanReader, name: str) -> None:
    rows = one(reader, READ[name])
    assert rows is not None
    assert rows.devices == ["pump-1"]
    assert rows.times_ms == [1_690_000_000_123]
    assert list(rows.numbers) == [20.25, 3.0, -0.5]


@pytest.mark.parametrize("name", LEFT)
def test_it_leaves_to_others(reader: CleanReader, name: str) -> None:
    assert one(reader, LEFT[name]) is None
    assert reader.read([GOOD] * 5 + [LEFT[name]] + [GOOD] * 5, [None] * 11) is None


@pytest.mark.parametrize("where", [b'"more":"%s"', b'"%s":1', b'"more":["aaaaaaaa%s"]'])
def test_what_is_no_utf8_is_left_to_others_wherever_it_stands(reader: CleanReader, where: bytes) -> None:
    for broken in BROKEN_UTF8:
        assert one(reader, GOOD[:-1] + b"," + where % broken + b"}") is None, broken
        assert one(reader, GOOD.replace(b"pump-1", broken)) is None, broken
    for well in ("é", "€", "😀", "\ud7ff", "\ue000", "\U0010ffff", "\x7f"):
        assert one(reader, GOOD[:-1] + b"," + where % well.encode() + b"}") is not None, well


def test_every_code_point_in_a_name_is_read_as_it_is(manifest_of: Callable[..., Manifest]) -> None:
    reader = reader_of(manifest_of())
    names = [
        chr(point)
        for point in range(0x20, 0x110000, 97)
        if not 0xD800 <= point < 0xE000 and point not in (34, 92)
    ]
    events = [GOOD.replace(b"pump-1", name.encode()) for name in names]
    rows = reader.read(events, [None] * len(events))
    assert rows is not None
    assert rows.devices == names


def test_cut_anywhere_nothing_is_read_and_nothing_breaks(reader: CleanReader) -> None:
    for whole in READ.values():
        for length in range(len(whole.rstrip())):
            assert one(reader, whole[:length]) is None


def test_names_are_kept_only_for_their_own_bytes(manifest_of: Callable[..., Manifest]) -> None:
    reader = reader_of(manifest_of())
    names = [f"device-{number}" for number in range(40_000)] + ["ü" * 40, "x" * 64, "x" * 65, "x" * 256] * 2
    events = [GOOD.replace(b"pump-1", name.encode()) for name in names]
    for _ in range(2):
        rows = reader.read(events, [None] * len(events))
        assert rows is not None
        assert rows.devices == names


def test_the_same_device_is_the_same_object(reader: CleanReader) -> None:
    rows = reader.read([GOOD] * 3, [None] * 3)
    assert rows is not None
    assert len(set(map(id, rows.devices))) == 1


def test_memory_stays_flat_over_batches_read_and_left(manifest_of: Callable[..., Manifest]) -> None:
    reader = reader_of(manifest_of({"device": {"from": "record-key"}}))
    plain = reader_of(manifest_of())
    bad = [GOOD] * 50 + [b"{"]

    def work() -> int:
        for number in range(50):
            keys = [b"%d-%d" % (number, at) for at in range(51)]
            assert reader.read(bad[:50], keys[:50]) is not None
            assert reader.read(bad, keys) is None
            assert plain.read(bad, [None] * 51) is None
            assert plain.read(bad[:50], [None] * 50) is not None
        gc.collect()
        return sys.getallocatedblocks()

    # The 16,384 names that may be kept do not grow past what two rounds have filled.
    work()
    before = work()
    assert work() - before < 200


@pytest.mark.parametrize(
    ("values", "keys"),
    [([GOOD, "text"], [b"k", b"k"]), ([GOOD, bytearray(GOOD)], [b"k"] * 2), ([GOOD], ["k"])],
)
def test_only_bytes_are_read(
    manifest_of: Callable[..., Manifest], values: list[bytes], keys: list[bytes]
) -> None:
    assert reader_of(manifest_of({"device": {"from": "record-key"}})).read(values, keys) is None


def test_the_array_must_be_the_right_one(reader: CleanReader) -> None:
    assert isinstance(reader, module.NativeReader)
    for wrong in (np.empty(2), np.empty(4), np.empty(0), np.empty(3, np.float32), np.empty(3, np.int64)):
        with pytest.raises(ValueError, match="float64"):
            reader._rows.read([GOOD], [None], wrong)  # type: ignore[arg-type]
    read_only = np.empty(3)
    read_only.flags.writeable = False
    for wrong in (read_only, np.empty(6)[::2], np.zeros(32, np.uint8)[1:25].view(np.float64)):
        with pytest.raises((ValueError, BufferError)):
            reader._rows.read([GOOD], [None], wrong)


@pytest.mark.parametrize(
    ("layout", "features"),
    [
        ({}, 1),
        ({"t": -1}, 1),
        ({"t": -1, "d": -2, "a": 0}, 2),
        ({"t": -1, "d": -2, "a": 0, "b": 0}, 2),
        ({"t": -1, "d": -2, "e": -2, "a": 0}, 1),
        ({"t": -1, "d": -3, "a": 0}, 1),
        ({"t": -1, "d": -2, "a": 1}, 1),
        ({"t": -1, "d": -2, "a": {}}, 1),
        ({"t": -1, "d": -2, "a": {None: 0}}, 1),
        ({"t": -1, "d": -2, 'a"': 0}, 1),
        ({"t": -1, "d": -2, "a": 0}, 0),
    ],
)
def test_a_layout_that_is_none_is_refused(layout: dict[str | None, object], features: int) -> None:
    with pytest.raises(ValueError, match=r"layout|place|name|features"):
        module._rows.RowReader(layout, features, False, 1, 1, 10, module._powers_of_ten())


def test_a_layout_deeper_than_it_reads_is_refused(manifest_of: Callable[..., Manifest]) -> None:
    deep: dict[str | None, object] = {"a": 0}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match="deep"):
        module._rows.RowReader({"t": -1, "d": -2, "deep": deep}, 1, False, 1, 1, 10, module._powers_of_ten())
    assert native_reader(manifest_of({"features": "/x" * 40})) is None


# ---- against the others ----


def assert_agrees(manifest: Manifest, reader: CleanReader, event: bytes, key: bytes | None) -> None:
    """What the reader reads, the ones in Python read alike."""
    rows = reader.read([event], [key])
    if rows is None:
        return
    others = [other for other in (typed_reader(manifest), GenericReader(manifest)) if other is not None]
    for other in others:
        expected = other.read([event], [key])
        assert expected is not None, (type(other), event)
        assert rows.devices == expected.devices
        assert rows.times_ms == expected.times_ms
        assert bits(rows.numbers) == bits(list(map(float, expected.numbers)))


NATIVE = [layout for layout in LAYOUTS if layout != "nested"]


@pytest.mark.parametrize("layout", NATIVE)
@fuzzing
@given(values=st.lists(st.tuples(value, KEYS), max_size=20))
def test_of_any_bytes_it_reads_what_the_others_read(
    manifest_of: Callable[..., Manifest], layout: str, values: list[tuple[bytes | None, bytes | None]]
) -> None:
    manifest = manifest_of(LAYOUTS[layout][0])
    reader = reader_of(manifest)
    for event, key in values:
        if event is not None:
            assert_agrees(manifest, reader, event, key)


def test_of_the_corpus_and_thousands_of_changed_events_it_reads_what_the_others_read(
    manifest_of: Callable[..., Manifest],
) -> None:
    manifest = manifest_of()
    reader = reader_of(manifest)
    chosen = random.Random(SEED)
    fuzzed = FuzzedRecords(SEED)
    events = [*corpus_values().values(), *READ.values(), *LEFT.values()]
    events += [fuzzed.one()[1] or b"" for _ in range(3_000)]
    pieces = [
        *NUMBERS,
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"e",
        b".",
        b"-",
        b"0",
        b"\x00",
        b"\xe2",
    ]
    whole = list(READ.values())
    for _ in range(5_000):
        event = bytearray(chosen.choice(whole))
        for _ in range(chosen.randint(1, 3)):
            at = chosen.randrange(len(event) + 1)
            event[at : at + chosen.choice((0, 0, 1, 1, 2, 5))] = chosen.choice(pieces)
        events.append(bytes(event))
    read = 0
    for event in events:
        assert_agrees(manifest, reader, event, b"k")
        read += one(reader, event) is not None
    assert read > 500


members_aside = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none() | st.booleans() | st.floats(-9, 9) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    ),
    max_size=4,
)


@given(members_aside, st.booleans(), st.integers(0, 4))
def test_events_with_more_members_are_read(
    reader: CleanReader, more: dict[str, object], escaped: bool, indent: int
) -> None:
    members = {name: member for name, member in more.items() if name not in ("device", "time", "readings")}
    event = {**members, **json.loads(GOOD), "last": more}
    text = json.dumps(event, ensure_ascii=escaped, indent=indent or None).encode("utf-8", "surrogatepass")
    rows = one(reader, text)
    if rows is None:
        assert b"\\" in text, "only escapes in a name, or of surrogates, are left to others"
    else:
        assert list(rows.numbers) == [20.25, 3.0, -0.5]
