"""Our scoring worker as a contender: the app of `farshore score`, stopped after N results.

Further settings come from the environment, as for any worker (FARSHORE_ONNX_THREADS, say).
"""

import asyncio
import os
from typing import Any

import uvloop
from job import COMMIT_SECONDS, Clock, task
from topics import unflushed

from farshore.agents import metrics
from farshore.agents.admin import connect_admin, ensure_topics, site_topics
from farshore.agents.faust_app import WorkerApp
from farshore.agents.logs import set_up_logging
from farshore.agents.scorer import make_scorer
from farshore.agents.settings import Settings, load_settings
from farshore.agents.worker import keep_what_is_loaded
from farshore.streams.packages.loader import ModelPackage, load_package

LOOK_SECONDS = 0.005
SIDE_TOPICS = ("anomalies", "deliveries", "audit", "dead_letters", "models")


def settings_for(bootstrap: str, in_topic: str, out_topic: str) -> Settings:
    """A worker of its own group between two topics; what else it writes stands beside its output."""
    names: dict[str, Any] = {f"topic_{name}": f"{out_topic}.{name}" for name in SIDE_TOPICS}
    return load_settings(
        kafka_bootstrap=bootstrap,
        site="benchmark",
        topic_events=in_topic,
        topic_scored=out_topic,
        scorer_group=f"{out_topic}.group",
        commit_interval_seconds=COMMIT_SECONDS,
        **names,
    )


def settled() -> int:
    """Events whose results are acknowledged; every event of the job can be scored."""
    return int(metrics.EVENTS.labels("scored")._value.get())


def metric(name: str) -> float:
    """What the worker would serve under /metrics."""
    return metrics.WORKER_REGISTRY.get_sample_value(name) or 0.0


async def run_to(events: int, settings: Settings, package: ModelPackage) -> None:
    """Start the app of `farshore score`, without its HTTP server; report when `events` are settled."""
    clock = Clock()
    async with connect_admin(settings.kafka_bootstrap) as admin:
        await ensure_topics(admin, unflushed(site_topics(settings)))
    app: WorkerApp = make_scorer(settings, package)
    await app.start()
    keep_what_is_loaded()
    while not app.ended.is_set() and settled() < events:
        if app.consumer.ledger.rows_outstanding or settled():
            clock.start()
        await asyncio.sleep(LOOK_SECONDS)
    assert app.fatal is None, app.fatal
    clock.report(
        settled(),
        batch_rows_mean=settled() / metric("farshore_batch_rows_count"),
        run_rows_max=metric("farshore_model_run_rows_max"),
    )
    await app.stop()
    os._exit(0)


def main() -> None:
    set_up_logging("warning")
    given = task()
    settings = settings_for(given.bootstrap, given.in_topic, given.out_topic)
    package = load_package(given.package, intra_op_threads=settings.onnx_threads)
    uvloop.run(run_to(given.events, settings, package))


if __name__ == "__main__":
    main()
