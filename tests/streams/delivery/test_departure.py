"""What leaves the site without a policy: the fields of the allow-list, each of its own type, and no other."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from farshore.schemas.records import Departure
from farshore.streams.delivery.policy import DamagedAnomalyError, Departing, Policy

from ...site_events import anomaly_record

ANOMALY = anomaly_record(17) | {"contributions": {"flow": 1.0}}
LEAVING = {"id", "site", "time", "score", "severity", "model"}


def departure_of(value: bytes) -> bytes:
    verdict = Policy().judge(value)
    assert isinstance(verdict, Departing)
    return verdict.body()


def test_only_the_fields_of_the_allow_list_leave_and_they_leave_unchanged() -> None:
    left = orjson.loads(departure_of(orjson.dumps(ANOMALY)))
    assert set(left) == set(Departure.__required_keys__) == LEAVING
    assert left == {name: ANOMALY[name] for name in LEAVING}


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


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"device": "pump-17"}},
        {"id": "pump-17"},
        {"site": ["pump-17"]},
        {"score": "pump-17"},
        {"score": True},
        {"score": None},
        {"time": 1.5},
        {"time": -1},
        {"severity": "pump-17"},
        {"model": "pump-17"},
        {"resent": "pump-17"},
    ],
    ids=str,
)
def test_an_allowed_name_with_a_foreign_value_takes_nothing_off_the_site(changes: dict[str, Any]) -> None:
    """Once the names alone were looked at: an object under an allowed name left as it was."""
    with pytest.raises(DamagedAnomalyError) as raised:
        departure_of(orjson.dumps(ANOMALY | changes))
    assert "pump-17" not in str(raised.value)


def test_nesting_deeper_than_the_encoder_goes_is_damage_and_no_crash() -> None:
    """Once the encoder's TypeError ended the bridge, again after each start."""
    deep = b"[" * 300 + b"]" * 300
    value = orjson.dumps(ANOMALY | {"model": "MODEL"}).replace(b'"MODEL"', deep)
    with pytest.raises(DamagedAnomalyError, match="model"):
        departure_of(value)
