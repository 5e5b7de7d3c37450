"""What leaves the site for an anomaly: the fields of the allow-list and nothing else."""

from __future__ import annotations

import orjson
import pytest

from farshore.streams.delivery.departure import DEPARTING_FIELDS, DamagedAnomalyError, departure_of

ANOMALY = {
    "id": "0" * 32,
    "site": "north",
    "device": "pump-17",
    "time": 1_700_000_000_000,
    "score": 0.1,
    "threshold": 0.05,
    "severity": "high",
    "model": "sample@1",
    "contributions": {"flow": 1.0},
    "readings": {"flow": 71.3},
}


def test_only_the_fields_of_the_allow_list_leave_and_they_leave_unchanged() -> None:
    left = orjson.loads(departure_of(orjson.dumps(ANOMALY)))
    assert set(left) == set(DEPARTING_FIELDS) == {"id", "site", "time", "score", "severity", "model"}
    assert left == {name: ANOMALY[name] for name in DEPARTING_FIELDS}


def test_a_field_that_a_later_version_adds_does_not_leave_by_itself() -> None:
    body = departure_of(orjson.dumps(ANOMALY | {"operator": "Ms Smith"}))
    assert b"Smith" not in body


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (orjson.dumps({name: ANOMALY[name] for name in ANOMALY if name != "severity"}), "lacks severity"),
    ],
)
def test_a_damaged_record_is_told_by_what_is_wrong_with_it(value: bytes, told: str) -> None:
    with pytest.raises(DamagedAnomalyError, match=told):
        departure_of(value)
