"""A receipt adds up only when every event and every anomaly is accounted for."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.schemas.receipt import Receipt

EVENT_PARTS = ("scored", "dead_letters", "unread", "lost_to_retention")
ANOMALY_PARTS = ("acknowledged", "waiting", "held_back", "set_aside", "dropped_by_quota")
COUNTS = st.integers(0, 10**12)


@st.composite
def balanced(draw: st.DrawFn) -> Receipt:
    counts = {name: draw(COUNTS) for name in EVENT_PARTS + ANOMALY_PARTS}
    return Receipt(
        events=sum(counts[name] for name in EVENT_PARTS),
        anomalies=sum(counts[name] for name in ANOMALY_PARTS),
        **counts,
    )


@given(balanced())
def test_counts_that_sum_up_add_up(receipt: Receipt) -> None:
    assert receipt.events_add_up
    assert receipt.anomalies_add_up
    assert receipt.adds_up


@given(balanced(), st.sampled_from(("events", *EVENT_PARTS)), st.integers(1, 1_000))
def test_one_event_too_many_or_too_few_anywhere_breaks_only_the_events(
    receipt: Receipt, name: str, more: int
) -> None:
    wrong = replace(receipt, **{name: getattr(receipt, name) + more})
    assert not wrong.events_add_up
    assert wrong.anomalies_add_up
    assert not wrong.adds_up


@given(balanced(), st.sampled_from(("anomalies", *ANOMALY_PARTS)), st.integers(1, 1_000))
def test_one_anomaly_too_many_or_too_few_anywhere_breaks_only_the_anomalies(
    receipt: Receipt, name: str, more: int
) -> None:
    wrong = replace(receipt, **{name: getattr(receipt, name) + more})
    assert wrong.events_add_up
    assert not wrong.anomalies_add_up
    assert not wrong.adds_up


def test_the_receipt_is_printed_with_every_count_by_name() -> None:
    receipt = Receipt(*range(len(fields(Receipt))))
    assert receipt.as_dict() == {field.name: index for index, field in enumerate(fields(Receipt))}


def test_a_receipt_cannot_be_changed_after_it_was_counted() -> None:
    receipt = Receipt(*[0] * len(fields(Receipt)))
    with pytest.raises(AttributeError):
        receipt.events = 1  # type: ignore[misc]
