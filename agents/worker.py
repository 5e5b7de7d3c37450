"""Runs one Faust app as a worker process: metrics and health served, broker awaited, topics checked, signals
obeyed.

Guarantee: the process ends within STOP_SECONDS_MAX + LINGER_SECONDS_MAX of a signal, whatever is away: what
is settled by then is committed, the rest is read again by the next start.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Final

import uvloop
from aiokafka.errors import KafkaError

from .admin import connect_admin, ensure_topics, site_topics
from .errors import BrokerAbsentError, BrokerRefusalError, first_line, is_passing
from .exposition import serve_metrics
from .faust_app import WorkerApp
from .health import Health, Step
from .lag import LagExporter
from .logs import set_up_logging
from .settings import Settings
from .watch import Watch

__all__ = ["keep_what_is_loaded", "prepare_site", "run_worker"]

log = logging.getLogger(__name__)

BROKER_RETRY_SECONDS_MIN: Final = 0.5
BROKER_RETRY_SECONDS_MAX: Final = 5.0
STOP_SECONDS_MAX: Final = 8.0
LINGER_SECONDS_MAX: Final = 1.0


async def prepare_site(settings: Settings, *, anomaly_bytes_max: int = 0) -> None:
    """Wait for the broker as long as it takes, then make and check the topics.

    Raises TopicError, and BrokerRefusalError for what no waiting mends.
    """
    started, wait_seconds = monotonic(), BROKER_RETRY_SECONDS_MIN
    said = False
    while True:
        try:
            async with connect_admin(settings.kafka_bootstrap) as admin:
                if said:
                    log.warning("Kafka answers after %.1f s", monotonic() - started)
                report = await ensure_topics(
                    admin, site_topics(settings), anomaly_bytes_max=anomaly_bytes_max
                )
                for warning in report.warnings:
                    log.warning("%s", warning)
                return
        except (BrokerAbsentError, KafkaError) as error:
            if not is_passing(error):
                raise BrokerRefusalError(
                    f"Kafka at {settings.kafka_bootstrap} refuses what a start needs: {first_line(error)}"
                ) from None
            # A broker that is still starting answers, and refuses this or that for a while.
            if not said:
                log.warning("%s; trying again until one does", error)
                said = True
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(wait_seconds * 2, BROKER_RETRY_SECONDS_MAX)


def keep_what_is_loaded() -> None:
    """Take everything there is now out of garbage collection; for a process that has just started.

    Modules and models stay as long as the process. A full collection, which comes once in a while, would walk
    through them again and hold up every event for some 50 ms.
    """
    gc.collect()
    gc.freeze()


def run_worker(settings: Settings, make: Callable[[], WorkerApp], *, anomaly_bytes_max: int = 0) -> int:
    """Run the app that `make` gives until a signal or an error ends it; the exit code.

    The store must take records of `anomaly_bytes_max`, else TopicError is raised before anything is made.
    The caller is to end the process with that code at once: LINGER_SECONDS_MAX later it ends by itself.
    """
    set_up_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_run(settings, make, anomaly_bytes_max))
        _end_process_soon(code)
    return code


def _end_process_soon(code: int) -> None:
    # A name lookup without an answer, as with a dead uplink, holds a thread that Python would wait for.
    last = threading.Timer(LINGER_SECONDS_MAX, os._exit, (code,))
    last.daemon = True
    last.start()


async def _run(settings: Settings, make: Callable[[], WorkerApp], anomaly_bytes_max: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health()
    port = serve_metrics(settings.metrics_host, settings.metrics_port, health=health)
    if not await _until(stop, prepare_site(settings, anomaly_bytes_max=anomaly_bytes_max)):
        return 0
    health.passed(Step.TOPICS)
    log.info("metrics on port %d", port)
    # Step by step: a model that is still cold must get no partitions.
    app = make()
    health.passed(Step.WARM)
    watch = Watch(app, health, group=app.conf.id, seconds_max=settings.liveness_seconds_max)
    watch.start()
    lag = asyncio.create_task(LagExporter.of(settings, app.note_lags).run(), name="lag")
    try:
        if not await _until(stop, app.start(), app.ended) or app.ended.is_set():
            return 0 if app.fatal is None else 1
        keep_what_is_loaded()
        health.passed(Step.GROUP)
        log.info("site %s is working as a member of group %s", settings.site, app.conf.id)
        await _first(stop, app.ended)
    except KafkaError as error:
        app.stop_on_error(error)
    finally:
        health.stopping()
        lag.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await app.stop()
                await lag
        watch.close()
    return 0 if app.fatal is None else 1


async def _until(stop: asyncio.Event, work: Coroutine[object, object, None], *ends: asyncio.Event) -> bool:
    """Whether `work` was done before `stop` or one of `ends` was set; its errors pass."""
    task = asyncio.create_task(work)
    ended = asyncio.create_task(_first(stop, *ends))
    await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not task.done():
        task.cancel()
        return False
    task.result()
    return True


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
