"""Numbers as the reader in C takes them: Python's float of the same text, bit for bit."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farshore.schemas.manifest import Manifest
from farshore.streams.scoring.clean import CleanReader
from farshore.streams.scoring.decoding import EventDecoder
from farshore.streams.scoring.native_reader import PURE_PYTHON

from .native import GOOD, SEED, bits, needs_extension, one, reader_of

pytestmark = needs_extension


@pytest.fixture(scope="module")
def reader(manifest_of: Callable[..., Manifest]) -> CleanReader:
    return reader_of(manifest_of())


def read_numbers(reader: CleanReader, texts: Sequence[str]) -> list[float]:
    """Each text read as a feature; every one must be taken."""
    padded = [*texts, *["0"] * (-len(texts) % 3)]
    events = [
        b'{"device":"d","time":0,"readings":[%s]}' % ",".join(padded[at : at + 3]).encode()
        for at in range(0, len(padded), 3)
    ]
    rows = reader.read(events, [None] * len(events))
    assert rows is not None
    return list(rows.numbers)[: len(texts)]


def assert_numbers_are_pythons(reader: CleanReader, texts: Sequence[str]) -> None:
    found = read_numbers(reader, texts)
    wrong = [
        (text, number)
        for text, number in zip(texts, found, strict=True)
        if bits([number]) != bits([float(text)])
    ]
    assert not wrong


EDGES = [
    text
    for line in (
        "0 0.0 -0.0 -0e5 0e400 0e-400 1 -1 9007199254740992 9007199254740993 9007199254740995",
        "18446744073709551615 18446744073709551616 99999999999999999999 1e22 1e23 8.5e22 1e-22 1e-23 0.1",
        "0.2 0.3 123456789012345678 1.7976931348623157e308 1.7976931348623158e308",
        "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587",
        "4.9406564584124654e-324 5e-324 2.4703282292062327e-324 2.4703282292062328e-324",
        "2.2250738585072014e-308 2.225073858507201e-308 2.2250738585072011e-308 2.2250738585072012e-308",
        "1e-400 0.00000000000000000000000000000000000000000000000000012345678901234567",
        "9007199254740993.00000000000000000000000000000001",
        "0.500000000000000166533453693773481063544750213623046875",
        "0.1000000000000000055511151231257827021181583404541015625 1E5 1e+5 1e-05",
        "1e+0000000000000000000000001 1.0e0 7205759403792793199999e-5 9223372036854775807",
        "9223372036854775808 -9223372036854775809 3.4028235677973366e38 6.9294956446009195e15",
        "9355950000000000000.00000000000000000000000000000000001844674407370955161600000184467440737095",
    )
    for text in line.split()
]


def test_numbers_at_the_edges_are_as_python_reads_them(reader: CleanReader) -> None:
    assert_numbers_are_pythons(reader, EDGES)
    assert_numbers_are_pythons(reader, ["-" + text for text in EDGES if text[0] not in "-0"])


@pytest.mark.parametrize("pure_python", ["0", "1"])
def test_a_number_of_very_many_digits_is_pythons_or_refused_by_every_reader(
    manifest_of: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch, pure_python: str
) -> None:
    monkeypatch.setenv(PURE_PYTHON, pure_python)
    decoder = EventDecoder(
        manifest_of(input={"name": "x", "dtype": "float64", "shape": ["batch", 3]}), event_bytes_max=1 << 20
    )
    for zeros in (300, 4_080, 5_000, 10_000, 11_000, 100_005):
        for more in (0, 5, 2_000, 1_000_000):
            number = f"0.{'0' * zeros}1e{zeros + 1 + more}"
            event = b'{"device":"d","time":0,"readings":[%s,0,0]}' % number.encode()
            decoded = decoder.decode([event], [None])
            if math.isinf(float(number)):
                assert len(decoded.rejections) == 1, (zeros, more)
            else:
                assert decoded.matrix[0, 0] == float(number), (zeros, more)


def test_random_numbers_of_every_length_and_size_are_as_python_reads_them(reader: CleanReader) -> None:
    chosen = random.Random(SEED)
    texts = []
    for _ in range(20_000):
        (number,) = struct.unpack("d", chosen.randbytes(8))
        if math.isfinite(number):
            texts += [repr(number), f"{number:.{chosen.randrange(25)}e}"]
        digits = "".join(chosen.choices("0123456789", k=chosen.randint(1, 25))).lstrip("0") or "7"
        texts.append(f"{digits}.{chosen.randrange(10**6)}e{chosen.randint(-330, 280)}")
        texts.append(f"{chosen.gauss(0, 1):.{chosen.randrange(1, 20)}f}")
    assert_numbers_are_pythons(reader, texts)


def test_numbers_halfway_between_two_floats_and_next_to_it_are_as_python_reads_them(
    reader: CleanReader,
) -> None:
    chosen = random.Random(SEED)
    texts = []
    for _ in range(3_000):
        # An odd number of 54 bits, times a power of two, is halfway between two floats; exactly, in decimal.
        odd = 2 * chosen.randrange(2**52, 2**53) + 1
        power = chosen.randint(-80, 80)
        digits, exponent = (odd << power, 0) if power >= 0 else (odd * 5**-power, power)
        texts += [f"{digits + step}e{exponent}" for step in (-1, 0, 1)]
        whole = chosen.randrange(2**53, 2**64)
        texts += [str(whole), str(whole | 1 << 10 & ~0x3FF)]
    assert_numbers_are_pythons(reader, texts)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_every_float_comes_back_from_its_shortest_text(reader: CleanReader, numbers: list[float]) -> None:
    assert bits(read_numbers(reader, list(map(repr, numbers)))) == bits(numbers)


@given(st.from_regex(r"(0|[1-9][0-9]{0,22})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
@example("9007199254740993e0")
def test_any_number_is_as_python_reads_it_or_left_to_others(reader: CleanReader, text: str) -> None:
    rows = one(reader, b'{"device":"d","time":0,"readings":[-%s,0,%s]}' % (text.encode(), text.encode()))
    number = float(text)
    if rows is None:
        assert math.isinf(number) or text == "0"
    else:
        assert bits(rows.numbers) == bits([-number, 0.0, number])


@pytest.mark.parametrize(
    "text",
    [
        *("01", "00", "-01", "+1", ".5", "1.", "1.e5", "1e", "0e", "1e+", "1e1.5", "0x10", "1_0", "-", "--"),
        *("1e400", "-1e400", "NaN", "Infinity", "-0", "1a", "1-", "١"),
    ],
)
def test_what_is_no_number_or_no_float_is_left_to_others(reader: CleanReader, text: str) -> None:
    assert one(reader, GOOD.replace(b"20.25", text.encode())) is None
    assert one(reader, b'{"device":"d","time":0,"readings":[1,%s,2]}' % text.encode()) is None
    if text != "-0":
        assert one(reader, GOOD[:-1] + b',"more":%s}' % text.encode()) is None
