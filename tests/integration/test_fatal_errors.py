"""What no retry mends ends a worker with one line and exit code 1, instead of leaving it silent."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from farshore.agents.receipts import count_site

from ..site import WORKING, EventSource, Site, Worker

pytestmark = pytest.mark.broker

SICK_WORKER = str(Path(__file__).with_name("sick_worker.py"))


async def test_a_worker_that_its_group_refuses_ends_and_says_why(site: Site) -> None:
    """Faust never asks aiokafka for such an error: the worker would wait for an assignment for ever."""
    # Kafka takes no session shorter than its group.min.session.timeout.ms, 6 s by default.
    worker = site.launch("score", kafka_session_timeout_seconds="1")
    assert await worker.ended() == 1
    (line,) = worker.lines("ERROR")
    assert "stopping: " in line
    assert "SessionTimeout" in line
    assert "Traceback" not in worker.log
    assert WORKING not in worker.log


async def test_a_metrics_port_that_is_taken_is_told_in_one_line(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = await site.run("score", metrics_port=port)
    assert finished.returncode == 1
    assert port in finished.stderr
    assert "Traceback" not in finished.stderr


async def test_a_fault_that_one_partition_meets_with_every_transaction_ends_the_worker_with_its_trace(
    site: Site,
) -> None:
    """Once it was told in one line, then tried again for ever, by all partitions, five times a second."""
    sick = site.folder / "sick.log"
    worker = Worker(["score"], site.environment(guarantee="exactly-once"), sick, program=[SICK_WORKER])
    site.workers.append(worker)
    async with site.load(EventSource(seed=91), events_per_second=200):
        assert await worker.ended() == 1
    (told,) = (line for line in worker.lines("WARNING") if "did not come about" in line)
    assert f"{site.settings.topic_events}/0" in told
    assert "TypeError('a fault in the program')" in told
    (stopping,) = worker.lines("ERROR")
    assert "stopping: TypeError: a fault in the program" in stopping
    assert "send_or_fail" in worker.log  # the trace
    assert "met 3 times by" in worker.log
    # Nothing of it is seen; the next worker reads it again from the commit.
    assert 0 not in {record.partition for record in await site.records(site.settings.topic_scored)}
    await site.start("score", guarantee="exactly-once")
    await site.scored()
    count = await count_site(site.settings)
    assert count.receipt().adds_up
    assert count.scored_records == len(count.scored)
