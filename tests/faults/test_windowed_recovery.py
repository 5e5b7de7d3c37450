"""Windows, medians and rests through kills and rebalances: equal to an undisturbed run, bit for bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from farshore.local.windowed_sample import write_windowed_package
from farshore.schemas.manifest import parse_manifest

from ..plain_windows import Event, Found, plain_model
from ..site import FEATURES, EventSource, Site, Worker, open_site, until, values_of

pytestmark = pytest.mark.broker

WINDOW, HORIZON = 8, 90
"""Three or more devices share a partition, so that windows need nearly all of their third of the horizon."""

SHORT_SESSION = {"kafka_session_timeout_seconds": "6", "transaction_seconds_max": "20"}


@dataclass(frozen=True)
class Course:
    """Batch limits of the workers that are killed alone, and of three at once, of which the last survives."""

    guarantee: str
    alone: tuple[str, str]
    together: tuple[str, str, str]


# Every limit dies once alone and once among three; every limit under both guarantees.
COURSES = (
    Course("at-least-once", alone=("1", "1024"), together=("32", "256", "1")),
    Course("exactly-once", alone=("32", "256"), together=("1", "1024", "256")),
)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that keeps all there is to keep: windows, a median, rests of some events of a device."""
    rng = np.random.default_rng(7)
    return write_windowed_package(
        tmp_path_factory.mktemp("windowed") / "package",
        [rng.normal(size=(600, len(FEATURES))) for _ in range(3)],
        FEATURES,
        window=WINDOW,
        window_horizon=HORIZON,
        median_of=3,
        rest_seconds=0.05,
    )


@pytest.fixture
def guarantee() -> str:
    """What the site's scorers promise, unless a test says otherwise."""
    return "at-least-once"


@pytest.fixture
async def site(
    broker: Any, topic_prefix: str, tmp_path: Path, windowed: Path, guarantee: str
) -> AsyncIterator[Site]:
    """A site with the windowed package."""
    more = SHORT_SESSION | {"guarantee": guarantee}
    async with open_site(broker.bootstrap, topic_prefix, tmp_path, windowed, **more) as opened:
        yield opened


async def log_of(site: Site) -> dict[int, list[Event]]:
    """The events topic as it is, by partition."""
    log = defaultdict(list)
    for record in await site.records(site.settings.topic_events):
        value = orjson.loads(record.value)
        readings = tuple(value["readings"][name] for name in FEATURES)
        log[record.partition].append(Event(record.offset, value["device"], value["time"], readings))
    return dict(log)


def offline(package: Path, log: dict[int, list[Event]]) -> dict[int, Found]:
    """Every partition by the plain model, and ONNX Runtime without any of our code."""
    document = orjson.loads((package / "manifest.json").read_bytes())
    scaling = document["input"]["scaling"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        package / "model.onnx", options, providers=["CPUExecutionProvider"]
    )

    def score(window: np.ndarray) -> float:
        row = ((window - scaling["mean"]) / scaling["std"]).astype(np.float32).reshape(1, -1)
        return float(session.run(["score"], {"x": row})[0][0, 0])

    return {part: plain_model(parse_manifest(document), events, score) for part, events in log.items()}


async def scored(site: Site) -> tuple[dict[int, Found], int]:
    """What `scored` says of each source, which it must say alike each time, and how often it is repeated."""
    found: dict[int, Found] = defaultdict(dict)
    repeated = 0
    for value in values_of(await site.records(site.settings.topic_scored)):
        source, each = value["source"], (value["score"], value["anomaly"])
        before = found[source["partition"]].setdefault(source["offset"], each)
        assert before == each, f"{source} has two outcomes"
        repeated += before is not each
    return dict(found), repeated


def scored_more_than(worker: Worker, count: int) -> bool:
    return worker.metric("farshore_events_total", outcome="scored") > count


@pytest.mark.timeout(400)  # workers one after the other, and sessions that time out
@pytest.mark.parametrize(
    ("guarantee", "course"),
    [pytest.param(course.guarantee, course, id=course.guarantee) for course in COURSES],
)
async def test_scores_and_decisions_after_kills_and_rebalances_equal_those_of_an_undisturbed_run(
    site: Site, windowed: Path, course: Course
) -> None:
    """Workers alone, each killed -9 under load; one that ends in good order; three, two of them killed."""
    topic, group = site.settings.topic_events, site.settings.scorer_group
    async with site.load(EventSource(seed=11, anomaly_share=0.01), events_per_second=1_000) as load:
        for limit in course.alone:
            worker = await site.start("score", batch_rows_max=limit)
            await until(partial(scored_more_than, worker, 800), "work")
            worker.kill()
        worker = await site.start("score", batch_rows_max=course.alone[0])
        await until(partial(scored_more_than, worker, 300), "work after a kill")
        await worker.stop()
        workers = [site.launch("score", batch_rows_max=limit) for limit in course.together]

        async def joined() -> bool:
            return len(await site.members(group)) == 3

        await until(joined, lambda: "three members; logs:\n" + site.logs())
        for worker in workers:
            await until(partial(scored_more_than, worker, 300), "all three at work")
        # Now: those that are killed cannot be asked afterwards.
        rebuilt = [worker.metric("farshore_events_rebuilt_total") for worker in workers]
        assert min(rebuilt) > HORIZON / 3, rebuilt
        *killed, survivor = workers
        for worker in killed:
            worker.kill()
        # More on every partition, so that there is something to take over.
        published = load.published
        await until(lambda: load.published > published + 300, "load after the kills")
    await site.scored()
    # Once more for what it took over.
    assert survivor.metric("farshore_events_rebuilt_total") > rebuilt[-1] + HORIZON / 3

    log = await log_of(site)
    expected = offline(windowed, log)
    found, repeated = await scored(site)
    assert found == expected
    if course.guarantee == "exactly-once":
        assert repeated == 0
    else:
        assert repeated > 0  # or nobody was killed in the middle of anything
    assert sum(anomaly for found in expected.values() for _, anomaly in found.values()) > 20
    assert sum(len(events) for events in log.values()) == load.published

    # One device's window cleared, once, somewhere in the log: this comparison would have seen it.
    (part, events), *_ = log.items()
    cut = events[len(events) // 2]
    kept = [event for event in events if event.offset >= cut.offset or event.device != cut.device]
    cleared = offline(windowed, {part: kept})[part]
    assert any(cleared[event.offset] != found[part][event.offset] for event in kept)
    committed = await site.committed(group, topic)
    assert committed == await site.ends(topic)


async def test_windows_start_empty_where_retention_took_their_readings_and_are_counted(
    site: Site, windowed: Path
) -> None:
    source = EventSource(seed=12, devices=3)
    worker = await site.start("score")
    await site.publish(source.take(400), partition=0)
    await site.scored()
    assert worker.metric("farshore_window_cold_total") == 3 * (WINDOW - 1)
    await worker.stop()
    events = TopicPartition(site.settings.topic_events, 0)
    async with site.admin() as admin:
        await admin.delete_records({events: RecordsToDelete(390)})
    worker = await site.start("score")
    await until(lambda: worker.metric("farshore_events_rebuilt_total") == 10, "rebuilt")
    # What is read again has no results, and no commit goes back for it.
    assert (await site.committed(site.settings.scorer_group, site.settings.topic_events))[0] == 400
    assert len(await site.records(site.settings.topic_scored)) == 400
    await site.publish(source.take(200), partition=0)
    await site.scored()
    assert worker.metric("farshore_events_rebuilt_total") == 10
    # Ten readings are left of the three devices.
    assert worker.metric("farshore_window_cold_total") == 3 * (WINDOW - 1) - 10
    found, repeated = await scored(site)
    log = await log_of(site)
    assert {offset: each for offset, each in found[0].items() if offset >= 400} == {
        offset: each for offset, each in offline(windowed, log)[0].items() if offset >= 400
    }
    assert repeated == 0
