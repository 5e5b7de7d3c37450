"""Our scoring worker as a contender: the app of `farshore score`, stopped after N results."""

import asyncio
import os
from typing import Any

import uvloop
from job import BATCH_ROWS_MAX, COMMIT_SECONDS, Clock, task

from farshore.agents import metrics
from farshore.agents.admin import connect_admin, ensure_topics, site_topics
from farshore.agents.logs import set_up_logging
from farshore.agents.scorer import make_scorer
from farshore.agents.settings import load_settings
from farshore.streams.packages.loader import load_package

_LOOK_SECONDS = 0.005


def settled() -> int:
    """Events whose results are acknowledged; every event of the job can be scored."""
    return int(metrics.EVENTS.labels("scored")._value.get())


async def main() -> None:
    given = task()
    clock = Clock()
    names: dict[str, Any] = {
        f"topic_{name}": f"{given.out_topic}.{name}"
        for name in ("anomalies", "deliveries", "audit", "dead_letters", "models")
    }
    settings = load_settings(
        kafka_bootstrap=given.bootstrap,
        site="benchmark",
        model=given.package,
        topic_events=given.in_topic,
        topic_scored=given.out_topic,
        scorer_group=f"{given.out_topic}.group",
        commit_interval_seconds=COMMIT_SECONDS,
        batch_rows_max=BATCH_ROWS_MAX,
        **names,
    )
    async with connect_admin(settings.kafka_bootstrap) as admin:
        await ensure_topics(admin, site_topics(settings))
    app = make_scorer(settings, load_package(given.package))
    await app.start()
    while not app.ended.is_set():
        if app.consumer.ledger.rows_outstanding or settled():
            clock.start()
        if settled() >= given.events:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    assert app.fatal is None, app.fatal
    clock.report(settled())
    await app.stop()
    os._exit(0)


set_up_logging("warning")
uvloop.run(main())
