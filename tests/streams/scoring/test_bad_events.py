"""Each kind of bad event ends as one rejection with its reason, and nobody beside it is touched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from farshore.schemas.manifest import Manifest
from farshore.schemas.reasons import DeadLetterReason
from farshore.streams.scoring.clean import DEVICE_LENGTH_MAX
from farshore.streams.scoring.decoding import EventDecoder

LIMIT = 1_048_576
Reason = DeadLetterReason


def event(*, device: str = '"d"', time: str = "1690000000123", temperature: str | None = "1.5") -> bytes:
    """The default layout, with each place as raw JSON; None leaves the first feature out."""
    first = "" if temperature is None else f'"temperature":{temperature},'
    return f'{{"device":{device},"time":{time},"readings":{{{first}"pressure":2,"vibration":3}}}}'.encode()


BAD: dict[str, tuple[bytes | None, DeadLetterReason, str]] = {
    "absent value": (None, Reason.EMPTY, "the value is empty"),
    "empty value": (b"", Reason.EMPTY, "the value is empty"),
    "5 MB": (event() + b" " * 5_000_000, Reason.TOO_LARGE, "the limit is 1048576"),
    "one byte too many": (event().ljust(LIMIT + 1), Reason.TOO_LARGE, "1048577 bytes, the limit is 1048576"),
    "bytes not UTF-8": (
        event(device='"d"').replace(b'"d"', b'"\xff"'),
        Reason.NOT_UTF8,
        "byte 11 is no UTF-8",
    ),
    "UTF-16": (event().decode().encode("utf-16"), Reason.NOT_UTF8, "is no UTF-8"),
    "not JSON": (b"temperature=71.3", Reason.NOT_JSON, "line 1 column 1"),
    "cut off": (event()[:-1], Reason.NOT_JSON, ""),
    "two texts in one value": (event() + event(), Reason.NOT_JSON, ""),
    "only white space": (b" \n", Reason.NOT_JSON, ""),
    "NaN": (event(temperature="NaN"), Reason.NOT_JSON, ""),
    "Infinity": (event(temperature="-Infinity"), Reason.NOT_JSON, ""),
    "a number beyond every float": (event(temperature="1e999"), Reason.NOT_JSON, ""),
    "half a surrogate pair": (event(device='"\\ud800"'), Reason.NOT_JSON, ""),
    "nested a million deep": (b"[" * 1_000_000 + b"]" * 1_000, Reason.NOT_JSON, ""),
    "objects nested 2,000 deep": (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, Reason.NOT_JSON, ""),
    "an array": (b"[1,2,3]", Reason.NOT_OBJECT, "JSON an array, expected an object"),
    "a string": (b'"text"', Reason.NOT_OBJECT, "JSON a string"),
    "null": (b"null", Reason.NOT_OBJECT, "JSON null"),
    "true": (b"true", Reason.NOT_OBJECT, "JSON a boolean"),
    "a number": (b"71.3", Reason.NOT_OBJECT, "JSON a number"),
    "no device": (event().replace(b'"device"', b'"Device"'), Reason.BAD_DEVICE, "/device is missing"),
    "a device of null": (event(device="null"), Reason.BAD_DEVICE, "/device is null, expected a string"),
    "a device of number": (event(device="17"), Reason.BAD_DEVICE, "/device is a number"),
    "a device of no characters": (event(device='""'), Reason.BAD_DEVICE, "has 0 characters"),
    "a device without end": (
        event(device=f'"{"x" * (DEVICE_LENGTH_MAX + 1)}"'),
        Reason.BAD_DEVICE,
        "has 257 characters, expected 1 to 256",
    ),
    "no time": (event().replace(b'"time"', b'"Time"'), Reason.BAD_TIME, "nothing at /time"),
    "a time of null": (event(time="null"), Reason.BAD_TIME, "time is null"),
    "a time of true": (event(time="true"), Reason.BAD_TIME, "time is a boolean"),
    "a time before 1970": (event(time="-1"), Reason.BAD_TIME, "outside 1970 to 2099"),
    "a time in 2100": (event(time="4102444800000"), Reason.BAD_TIME, "outside 1970 to 2099"),
    "a time beyond every calendar": (event(time="1e308"), Reason.BAD_TIME, "outside 1970 to 2099"),
    "a time without offset": (event(time='"2023-07-22T04:26:40"'), Reason.BAD_TIME, "no RFC 3339 time"),
    "no readings": (
        event().replace(b'"readings"', b'"values"'),
        Reason.MISSING_FEATURE,
        "nothing at /readings",
    ),
    "readings of null": (
        b'{"device":"d","time":0,"readings":null}',
        Reason.BAD_FEATURE,
        "/readings is null, expected an object or an array",
    ),
    "too few readings in a row": (
        b'{"device":"d","time":0,"readings":[1,2]}',
        Reason.BAD_FEATURE,
        "/readings has 2 values, expected 3",
    ),
    "too many readings in a row": (
        b'{"device":"d","time":0,"readings":[1,2,3,4]}',
        Reason.BAD_FEATURE,
        "/readings has 4 values, expected 3",
    ),
    "a missing feature": (
        event(temperature=None),
        Reason.MISSING_FEATURE,
        "feature 'temperature' is missing",
    ),
    "a feature of string": (
        event(temperature='"71.3"'),
        Reason.BAD_FEATURE,
        "feature 'temperature' is a string, expected a number",
    ),
    "a feature of null": (event(temperature="null"), Reason.BAD_FEATURE, "feature 'temperature' is null"),
    "a feature of true": (event(temperature="true"), Reason.BAD_FEATURE, "'temperature' is a boolean"),
    "a feature of array": (event(temperature="[1]"), Reason.BAD_FEATURE, "'temperature' is an array"),
    "a feature of object": (event(temperature="{}"), Reason.BAD_FEATURE, "'temperature' is an object"),
    "a number beyond float32": (
        event(temperature="1e39"),
        Reason.OUT_OF_RANGE,
        "feature 'temperature' is 1e+39, which the model's float32 input does not hold",
    ),
    "a number below float32": (
        event(temperature="-3.5e38"),
        Reason.OUT_OF_RANGE,
        "'temperature' is -3.5e+38",
    ),
}


@pytest.fixture(scope="module")
def decoder(manifest_of: Callable[..., Manifest]) -> EventDecoder:
    return EventDecoder(manifest_of(), event_bytes_max=LIMIT)


@pytest.mark.parametrize(("value", "reason", "detail"), BAD.values(), ids=BAD.keys())
def test_a_bad_event_is_rejected_with_its_reason_and_its_neighbours_are_not(
    decoder: EventDecoder, value: bytes | None, reason: DeadLetterReason, detail: str
) -> None:
    good = [event(temperature=str(number)) for number in range(40)]
    values = [*good[:20], value, *good[20:]]
    decoded = decoder.decode(values, [None] * 41)

    assert [(rejection.index, rejection.reason) for rejection in decoded.rejections] == [(20, reason)]
    assert detail in decoded.rejections[0].detail
    assert len(decoded.rejections[0].detail) <= 400
    assert list(decoded.indices) == [*range(20), *range(21, 41)]
    assert decoded.matrix[:, 0].tolist() == list(range(40))

    # A batch of its own is judged the same.
    alone = decoder.decode([value], [None])
    assert [rejection.reason for rejection in alone.rejections] == [reason]
    assert (alone.devices, alone.matrix.shape) == ([], (0, 3))


def test_all_of_them_in_one_batch_keep_their_reasons_and_their_order(decoder: EventDecoder) -> None:
    values: list[bytes | None] = []
    for value, _, _ in BAD.values():
        values += [value, event()]
    decoded = decoder.decode(values, [None] * len(values))
    assert [rejection.reason for rejection in decoded.rejections] == [reason for _, reason, _ in BAD.values()]
    assert [rejection.index for rejection in decoded.rejections] == list(range(0, len(values), 2))
    assert list(decoded.indices) == list(range(1, len(values), 2))


def test_every_reason_that_decoding_may_give_is_among_the_examples() -> None:
    # The model's own failures come later, in the pipeline.
    assert {reason for _, reason, _ in BAD.values()} == set(Reason) - {Reason.MODEL_OUTPUT}


def test_of_duplicate_keys_the_last_counts(decoder: EventDecoder) -> None:
    value = (
        b'{"device":"first","device":"last","time":1,"time":2,'
        b'"readings":{"temperature":"x","temperature":1,"pressure":2,"vibration":3}}'
    )
    decoded = decoder.decode([value], [None])
    assert (decoded.devices, decoded.times_ms, decoded.numbers) == (["last"], [2], [1, 2, 3])


@pytest.mark.parametrize("number", ["3.4028234663852886e38", "-3.4028234663852886e38", "1e-320", "-0.0", "7"])
def test_a_number_that_float32_holds_is_accepted_up_to_its_edge(decoder: EventDecoder, number: str) -> None:
    decoded = decoder.decode([event(temperature=number)], [None])
    assert decoded.rejections == []
    assert np.isfinite(decoded.matrix.astype(np.float64)).all()


def test_an_event_as_large_as_the_limit_is_accepted(decoder: EventDecoder) -> None:
    assert decoder.decode([event().ljust(LIMIT)], [None]).rejections == []


def test_what_the_model_does_not_ask_for_may_be_anything(decoder: EventDecoder) -> None:
    extra = event()[:-1] + b',"deep":' + b"[" * 900 + b"]" * 900 + b',"note":null,"":true}'
    assert decoder.decode([extra], [None]).rejections == []


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (None, "the record key is missing, expected a string"),
        (b"", "the record key has 0 characters"),
        (b"\xff", "the record key is no UTF-8"),
        (b"x" * 257, "the record key has 257 characters"),
    ],
)
def test_where_the_key_names_the_device_a_bad_key_is_a_bad_device(
    manifest_of: Callable[..., Manifest], key: bytes | None, detail: str
) -> None:
    decoder = EventDecoder(manifest_of({"device": {"from": "record-key"}}), event_bytes_max=LIMIT)
    decoded = decoder.decode([event()] * 3, [b"left", key, "rechts-ü".encode()])
    assert decoded.devices == ["left", "rechts-ü"]
    assert [(item.index, item.reason) for item in decoded.rejections] == [(1, Reason.BAD_DEVICE)]
    assert detail in decoded.rejections[0].detail


@pytest.mark.parametrize(
    ("dtype", "number", "fits"),
    [
        ("int64", "9223372036854775807", True),
        ("int64", "9223372036854775808", False),
        ("int64", "1e19", False),
        ("int64", "2.0", True),
        ("int64", "2.5", False),
        ("uint8", "255", True),
        ("uint8", "256", False),
        ("uint8", "-1", False),
        ("int8", "-128", True),
        ("int8", "128", False),
        ("float16", "65504", True),
        ("float16", "65520", False),
        ("float64", "1e308", True),
        ("float64", "18446744073709551616", True),
    ],
)
def test_a_number_must_be_one_that_the_models_input_holds(
    manifest_of: Callable[..., Manifest], dtype: str, number: str, fits: bool
) -> None:
    manifest = manifest_of(input={"name": "x", "dtype": dtype, "shape": ["batch", 3]})
    decoded = EventDecoder(manifest, event_bytes_max=LIMIT).decode([event(temperature=number)], [None])
    assert [rejection.reason for rejection in decoded.rejections] == ([] if fits else [Reason.OUT_OF_RANGE])
    if fits:
        assert float(decoded.matrix[0, 0]) == float(number)


def test_the_feature_that_does_not_fit_is_named_even_beside_the_largest_whole_number(
    manifest_of: Callable[..., Manifest],
) -> None:
    manifest = manifest_of(input={"name": "x", "dtype": "int64", "shape": ["batch", 3]})
    value = b'{"device":"d","time":0,"readings":[9223372036854775807,1,0.5]}'
    decoded = EventDecoder(manifest, event_bytes_max=LIMIT).decode([value], [None])
    assert "feature 'vibration' is 0.5" in decoded.rejections[0].detail


def test_a_batch_of_nothing_decodes_to_nothing(decoder: EventDecoder) -> None:
    decoded = decoder.decode([], [])
    assert (decoded.devices, decoded.rejections, decoded.matrix.shape) == ([], [], (0, 3))
