"""What makes a receipt fail to add up: whatever was lost, wherever it was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from farshore.agents.receipts import SiteCount, count_site
from farshore.local.broker import EmbeddedBroker
from farshore.schemas.records import Outcome

from ..site import EventSource, Site


def good() -> SiteCount:
    """Two partitions; of 10 events 7 are scored, 1 is a dead letter, 2 are unread; 3 anomalies, 1 waits."""
    return SiteCount(
        events={(partition, offset) for partition in (0, 1) for offset in range(5)},
        scored={(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)},
        scored_records=8,
        scored_anomalies={(0, 1), (0, 3), (1, 2)},
        dead_letters={(0, 4): "not-json"},
        anomalies={"a": (0, 0), "b": (0, 1), "c": (1, 0)},
        anomaly_sources={"a": (0, 1), "b": (0, 3), "c": (1, 2)},
        outcomes={"a": Outcome.ACKNOWLEDGED, "b": Outcome.SET_ASIDE},
        events_committed={0: 5, 1: 3},
        events_log_start={0: 0, 1: 0},
        anomalies_committed={0: 2, 1: 0},
    )


def test_a_good_site_adds_up() -> None:
    count = good()
    receipt = count.receipt()
    assert receipt.adds_up
    assert (receipt.events, receipt.scored, receipt.dead_letters, receipt.unread) == (10, 7, 1, 2)
    assert (receipt.anomalies, receipt.acknowledged, receipt.set_aside, receipt.waiting) == (3, 1, 1, 1)
    assert count.store_is_complete


def test_an_event_below_the_commit_without_an_outcome_is_missed() -> None:
    count = good()
    count.scored.remove((0, 2))
    assert not count.receipt().events_add_up


def test_an_event_that_is_scored_and_set_aside_counts_twice_and_is_told() -> None:
    count = good()
    count.scored.add((0, 4))
    assert not count.receipt().events_add_up


def test_an_anomaly_below_the_bridges_commit_without_an_outcome_is_missed() -> None:
    count = good()
    del count.outcomes["a"]
    assert not count.receipt().anomalies_add_up


def test_a_scored_anomaly_that_is_not_in_the_store_is_missed() -> None:
    count = good()
    del count.anomaly_sources["b"]
    assert not count.store_is_complete


def test_an_anomaly_in_the_store_that_nobody_scored_is_told() -> None:
    count = good()
    count.anomaly_sources["d"] = (1, 4)
    assert not count.store_is_complete


def test_events_that_retention_took_before_they_were_read_are_counted_as_lost() -> None:
    count = good()
    count.events = {position for position in count.events if position not in {(1, 3), (1, 4)}}
    count.events_log_start = {0: 0, 1: 5}
    receipt = count.receipt()
    assert receipt.lost_to_retention == 2
    assert receipt.unread == 0
    assert receipt.adds_up


def test_events_that_retention_took_stay_lost_when_the_commit_has_passed_them() -> None:
    count = good()
    # Told twice, as after a crash between the telling and the commit; (1, 6) was scored all the same.
    count.lost = {1: [(5, 9), (5, 9), (8, 11)]}
    count.scored.add((1, 6))
    count.events_committed = {0: 5, 1: 12}
    count.events = {position for position in count.events if position[0] == 0}
    count.events_log_start = {0: 0, 1: 11}
    receipt = count.receipt()
    assert receipt.lost_to_retention == 5
    assert receipt.adds_up


def test_events_that_were_deleted_before_the_first_commit_are_lost() -> None:
    count = good()
    count.events |= {(2, offset) for offset in range(40, 50)}
    count.events_log_start = {0: 0, 1: 0, 2: 40}
    receipt = count.receipt()
    assert (receipt.lost_to_retention, receipt.unread) == (40, 12)
    assert receipt.adds_up


def test_outcomes_of_a_topic_that_was_made_anew_are_no_outcomes_of_its_successors_events() -> None:
    count = good()
    count.scored.remove((0, 2))
    count.earlier_scored = {(1, 0, 2), (1, 0, 70)}
    count.earlier_lost = 4
    receipt = count.receipt()
    assert not receipt.events_add_up
    count.scored.add((0, 2))
    receipt = count.receipt()
    assert receipt.adds_up
    assert (receipt.events, receipt.scored, receipt.lost_to_retention) == (16, 9, 4)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_line(outcome: Outcome) -> None:
    count = good()
    count.outcomes["c"] = outcome
    receipt = count.receipt()
    before = good().receipt()
    name = outcome.value.replace("-", "_")
    assert receipt.as_dict()[name] == before.as_dict()[name] + 1
    assert receipt.waiting == 0
    assert receipt.anomalies_add_up


def test_what_a_quota_took_is_counted_though_its_record_has_left_the_store() -> None:
    count = good()
    count.outcomes["taken"] = Outcome.DROPPED_BY_QUOTA
    receipt = count.receipt()
    assert (receipt.anomalies, receipt.dropped_by_quota) == (4, 1)
    assert receipt.anomalies_add_up


@pytest.mark.broker
async def test_a_site_that_nobody_has_worked_on_is_counted_as_unread(
    topic_prefix: str, tmp_path: Path
) -> None:
    """On a broker of its own: before the first group there is no coordinator to ask for commits."""
    with EmbeddedBroker() as broker:
        site = Site(broker.bootstrap, topic_prefix, tmp_path, tmp_path)
        await site.make_topics()
        await site.publish(EventSource(seed=71).take(100))
        receipt = (await count_site(site.settings)).receipt()
    assert receipt.adds_up
    assert (receipt.events, receipt.unread) == (100, 100)
