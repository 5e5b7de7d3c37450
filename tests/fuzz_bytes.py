"""Bytes that no producer should send: a kept corpus, and as many more as wanted from a seed.

The corpus are the files of `fuzz_corpus`, one value each; an input that once broke something is added there.
Nothing here says what should become of a value: whatever it is, it must be scored or set aside.
"""

from __future__ import annotations

import random
from pathlib import Path

from .site_events import FEATURES

__all__ = ["CORPUS", "FuzzedRecords", "corpus_values"]

CORPUS = Path(__file__).with_name("fuzz_corpus")

NUMBERS = (
    b"0 -0 -0.0 1e39 -3.4028236e38 3.4028234663852886e38 1e308 1e309 -1e999 1e-400 5e-324 "
    b"9223372036854775808 18446744073709551616 00 01 1. .5 +1 1e 0x10 1_000 NaN -Infinity "
    b"1e+0000000000000001 "
    b"0.1000000000000000055511151231257827021181583404541015625"
).split()
SCALARS = [*NUMBERS, b"null", b"true", b"false", b"undefined", b'""', b'"71.3"', b"[]", b"{}", b"[1,2,3,4]"]
STRINGS = [
    b"\x00",
    b"\\u0000",
    b"\x1f\x7f",
    b"\n\t",
    b"\\ud800",
    b"\\udfff\\ud800",
    b"\\uD83D\\uDE00",
    b"\\x41",
    b"\\",
    b"\xff",
    b"\xc0\x80",  # an overlong NUL
    b"\xed\xa0\x80",  # a surrogate in UTF-8
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    "\u202e\u0301\ufdfd".encode(),
    b"x" * 300,
    b"x" * 20_000,
]
TIMES = (
    b'"2023-07-22T04:26:40Z"|"2023-02-30T00:00:00Z"|"2016-12-31T23:59:60Z"|"2023-07-22T04:26:40+99:99"|'
    b'"1970-01-01T00:00:00-00:00"|"+10000-01-01T00:00:00Z"|1690000000123.5|-1|4102444800000|1e12|1e300|'
    b'"now"|"\xd9\xa1\xd9\xa2"'
).split(b"|")
WRAPPINGS = (
    lambda value: b"\xef\xbb\xbf" + value,
    lambda value: value + b"\x00",
    lambda value: b"\x00" + value,
    lambda value: value + value,
    lambda value: value + b",",
    lambda value: b"[" + value + b"]",
    lambda value: b" \t\r\n" * 50 + value,
    lambda value: b"/* an event */" + value,
    lambda value: value[: len(value) // 2],
    lambda value: value.decode("latin-1").encode("utf-16"),
    lambda value: value.decode("latin-1").encode("utf-32"),
    lambda value: value.replace(b'"', b"'"),
    lambda value: value.upper(),
    lambda value: value[::-1],
)
DEPTH_MAX = 3_000
RANDOM_BYTES_MAX = 300
CHANGES_MAX = 6

Headers = list[tuple[str, bytes | None]]


def corpus_values() -> dict[str, bytes]:
    """The kept values by the names of their files."""
    return {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}


class FuzzedRecords:
    """Records without end; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways = (
            self._noise,
            self._changed,
            self._odd_member,
            self._odd_member,
            self._odd_members_twice,
            self._nested,
            self._wrapped,
        )

    def one(self) -> tuple[bytes | None, bytes | None]:
        """Key and value."""
        if self._random.random() < 0.01:
            return self._key() or b"", None  # aiokafka's `send` refuses a record of nothing at all
        return self._key(), self._random.choice(self._ways)()

    def headers(self) -> Headers:
        """Headers of a record, often none."""
        choice = self._random
        names = ("", "reason", "offset", "ü", "x" * 400)
        values = (None, b"", b"\xff\x00", b"y" * 2_000)
        return [(choice.choice(names), choice.choice(values)) for _ in range(choice.choice((0, 0, 0, 1, 3)))]

    def _key(self) -> bytes | None:
        keys = (None, b"", b"pump-1", b"\xff\xfe", b"\x00", b"k" * 300, self._random.randbytes(8))
        return self._random.choice(keys)

    def _event(self, **members: bytes) -> bytes:
        """An event in the default layout, with members as raw JSON in place of the ordinary ones."""
        choice = self._random
        readings = b",".join(
            b'"%s":%s' % (name.encode(), members.get(name, b"%.3f" % choice.gauss(0, 1))) for name in FEATURES
        )
        return b'{"device":%s,"time":%s,"readings":%s}' % (
            members.get("device", b'"pump-%d"' % choice.randrange(9)),
            members.get("time", b"%d" % (1_700_000_000_000 + choice.randrange(10**6))),
            members.get("readings", b"{" + readings + b"}"),
        )

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randrange(RANDOM_BYTES_MAX))

    def _changed(self) -> bytes:
        """A valid event with bytes changed, taken out, put in or moved."""
        choice, value = self._random, bytearray(self._event())
        for _ in range(choice.randint(1, CHANGES_MAX)):
            at, size = choice.randrange(len(value) + 1), choice.randint(1, 4)
            piece = choice.choice(
                (choice.randbytes(size), b"", bytes(value[at // 2 : at // 2 + size]), choice.choice(SCALARS))
            )
            value[at : at + size] = piece
        return bytes(value)

    def _scalar(self) -> bytes:
        choice = self._random
        if choice.random() < 0.3:
            return b'"%s"' % choice.choice(STRINGS)
        if choice.random() < 0.2:
            digits = b"%d" % choice.getrandbits(choice.choice((64, 128, 4_000)))
            return choice.choice((b"%s", b"-%s", b"0.%s", b"1e%s", b"%s.5e-5")) % digits[:4_000]
        return choice.choice(SCALARS)

    def _odd_member(self) -> bytes:
        choice = self._random
        name = choice.choice((*FEATURES, "device", "time", "readings"))
        if name == "time" and choice.random() < 0.7:
            return self._event(time=choice.choice(TIMES))
        return self._event(**{name: self._scalar()})

    def _odd_members_twice(self) -> bytes:
        """Duplicate keys, in any order, one of each pair odd; sometimes spelled with an escape."""
        choice = self._random
        name = choice.choice(("device", "time", "readings"))
        spelled = (
            b'"%s"' % name.encode()
            if choice.random() < 0.5
            else b'"\\u%04x%s"'
            % (
                ord(name[0]),
                name[1:].encode(),
            )
        )
        again = spelled + b":" + self._scalar()
        event = self._event()
        return event[:-1] + b"," + again + b"}" if choice.random() < 0.5 else b"{" + again + b"," + event[1:]

    def _nested(self) -> bytes:
        choice = self._random
        depth = choice.randrange(DEPTH_MAX)
        opening, closing = choice.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")))
        inside = opening * depth + b"1" + closing * choice.choice((depth, depth, depth // 2))
        where = choice.randrange(3)
        if where == 0:
            return inside
        return (
            self._event(readings=inside) if where == 1 else self._event()[:-1] + b',"more":' + inside + b"}"
        )

    def _wrapped(self) -> bytes:
        return self._random.choice(WRAPPINGS)(self._event())
