"""Records encoded by column are, byte for byte, what the codec writes of the same dictionaries."""

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.scoring import encoding
from farshore.streams.scoring.codec import encode
from farshore.streams.scoring.encoding import ScoredEncoder

ROWS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable())
        | st.sampled_from(["a,b", "100%", "%b"]),
        st.integers(0, 4_102_444_799_999),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.integers(0, 2**62),
    ),
    max_size=20,
)


@given(rows=ROWS, topic=st.sampled_from(["events", "a.b-c", "100%d"]), partition=st.integers(0, 10_000))
def test_columns_encode_as_records_do(
    rows: list[tuple[str, int, float, bool, int]], topic: str, partition: int
) -> None:
    encoder = ScoredEncoder("m%b@1")
    for _ in range(2):  # the second time every device is known
        values = encoder.encode(
            topic,
            partition,
            devices=[row[0] for row in rows],
            times_ms=[row[1] for row in rows],
            scores=np.array([row[2] for row in rows]),
            alarms=np.array([row[3] for row in rows], dtype=bool),
            offsets=[row[4] for row in rows],
        )
        assert values == [
            encode(
                {
                    "device": device,
                    "time": time_ms,
                    "score": score,
                    "anomaly": alarm,
                    "model": "m%b@1",
                    "source": {"topic": topic, "partition": partition, "offset": offset},
                }
            )
            for device, time_ms, score, alarm, offset in rows
        ]


def test_names_that_are_kept_stay_within_their_bound() -> None:
    encoder = ScoredEncoder("m@1")
    limit, encoding.DEVICES_KEPT_MAX = encoding.DEVICES_KEPT_MAX, 10
    try:
        for start in range(0, 100, 5):
            devices = [f"d{number}" for number in range(start, start + 5)]
            values = encoder.encode(
                "t",
                0,
                devices=devices,
                times_ms=[0] * 5,
                scores=np.zeros(5),
                alarms=np.zeros(5, bool),
                offsets=range(5),
            )
            assert all(
                f'"device":"{device}"'.encode() in value
                for device, value in zip(devices, values, strict=True)
            )
            assert len(encoder._devices) <= 10
    finally:
        encoding.DEVICES_KEPT_MAX = limit


def test_a_name_that_is_kept_costs_its_own_bytes_and_not_the_codecs_buffer() -> None:
    """A hundred thousand devices held 400 MB: each name lay in 4 kB that orjson had begun with."""
    encoder = ScoredEncoder("pump@1")
    names = [f"unit-{number}" for number in range(5_000)]
    columns = {"times_ms": [1] * 5_000, "offsets": range(5_000)}
    tracemalloc.start()
    try:
        encoder.encode(
            "events", 0, devices=names, scores=np.zeros(5_000), alarms=np.zeros(5_000, np.bool_), **columns
        )
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 5_000 * 400
