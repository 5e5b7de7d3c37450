"""What goes first from an anomaly that is too large."""

from __future__ import annotations

import orjson

from farshore.streams.delivery.cutting import cut_down


def test_readings_go_first_then_contributions_then_nothing_is_left_to_cut() -> None:
    body = orjson.dumps({"id": "1", "readings": {"a": 1.0}, "score": 2.0, "contributions": {"a": 3.0}})
    first = cut_down(body)
    assert first is not None
    assert orjson.loads(first[0]) == {
        "id": "1",
        "score": 2.0,
        "contributions": {"a": 3.0},
        "cut": ["readings"],
    }
    second = cut_down(first[0])
    assert second is not None
    assert orjson.loads(second[0]) == {"id": "1", "score": 2.0, "cut": ["readings", "contributions"]}
    assert (first[1], second[1]) == ("without readings", "without readings and contributions")
    assert cut_down(second[0]) is None


def test_what_a_policy_kept_is_not_there_to_be_cut_and_is_not_named() -> None:
    assert cut_down(orjson.dumps({"id": "1", "score": 2.0})) is None
    assert cut_down(orjson.dumps({"id": "1", "contributions": None})) is None
