"""What no retry mends ends a worker with one line and exit code 1, instead of leaving it silent."""

from __future__ import annotations

import socket

import pytest

from ..site import WORKING, Site

pytestmark = pytest.mark.broker


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
