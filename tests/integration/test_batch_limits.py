"""Batches fit the moment: what is waiting is taken at once, within limits, by a model that is warm."""

from __future__ import annotations

import re

import orjson
import pytest

from ..site import FEATURES, WORKING, Site

pytestmark = pytest.mark.broker

EVENTS = 12
EVENT_BYTES = 50_000
BATCH_BYTES_MAX = 65_536


async def test_the_model_is_measured_before_the_worker_says_that_it_works(site: Site) -> None:
    worker = await site.start("score", batch_rows_max="100")
    said = re.search(r"runs with at most (\d+) rows", worker.log)
    assert said is not None, worker.log
    assert said.start() < worker.log.index(WORKING)
    assert worker.log.count("runs with at most") == 1
    rows = int(said[1])
    assert 1 <= rows <= 64
    assert worker.metric("farshore_model_run_rows_max") == rows


async def test_a_batch_takes_no_more_bytes_than_its_limit_and_one_of_the_producers_batches(
    site: Site,
) -> None:
    event = {
        "device": "pump-1",
        "time": 1_700_000_000_000,
        "readings": dict.fromkeys(FEATURES, 0.5),
        "note": "x" * EVENT_BYTES,
    }
    # Larger than a producer's batch, so each event is one by itself; all of them wait for the worker.
    await site.publish([(b"pump-1", orjson.dumps(event))] * EVENTS, partition=0)
    worker = await site.start("score", batch_bytes_max=str(BATCH_BYTES_MAX))
    await site.scored()
    assert worker.metric("farshore_batch_rows_sum") == EVENTS
    assert worker.metric("farshore_batch_rows_count") >= EVENTS / 2, "two events pass the limit"
