"""What a worker says of itself, step by step."""

from __future__ import annotations

import pytest

from farshore.agents.health import Health, Step
from farshore.streams.liveness import Verdict


def test_a_worker_is_ready_when_every_step_is_done_in_its_order_and_until_it_stops() -> None:
    health = Health()
    left = ["topics", "warm", "group"]
    for step in (Step.TOPICS, Step.WARM, Step.GROUP):
        report = health.readiness()
        assert (report.good, report.body["missing"]) == (False, left)
        health.passed(step)
        left = left[1:]
    assert health.readiness().good
    health.stopping()
    assert health.readiness().body == {"ready": False, "why": "stopping", "missing": []}


def test_no_step_can_be_taken_before_the_one_ahead_of_it() -> None:
    """A worker that joined its group before its model is warm would hold up the events it is given."""
    health = Health()
    health.passed(Step.TOPICS)
    with pytest.raises(AssertionError, match="group"):
        health.passed(Step.GROUP)


def test_a_worker_that_has_not_begun_is_alive_and_later_the_verdict_counts() -> None:
    health = Health()
    assert health.liveness().good
    health.judged(Verdict(False, "stuck", 120.0))
    assert not health.liveness().good
    health.judged(Verdict(True, "nothing waits", 0.0))
    assert health.liveness().body == {"alive": True, "why": "nothing waits", "silent_seconds": 0.0}
