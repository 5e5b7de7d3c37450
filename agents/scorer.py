"""The scoring agent: events in, scored records, anomalies and dead letters out, on the event's own partition.

For each batch, in order:
  1. Faust hands the agent one partition's records; after an assignment, for a package that keeps something
     of devices, first those of the horizon before the commit, which have no results
  2. the pipeline decodes, scores and encodes them, in memory
  3. results are queued for `scored`, `anomalies` and `dead-letters`
  4. when the broker has acknowledged all of them, the batch is settled
  5. Faust commits the offsets of settled batches
In exactly-once mode 3 to 5 are one Kafka transaction (transactions.py). A crash anywhere repeats what is not
committed; anomalies repeat under the same key. Scoring goes on while earlier results wait for their
acknowledgement, within the transport's limits.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import faust
from faust.types import TP

from ..schemas.topics import TopicNames
from ..streams.packages.batchsize import measure_batch_size
from ..streams.packages.loader import ModelPackage
from ..streams.packages.record_size import anomaly_bytes_max
from ..streams.scoring.pipeline import BatchResult, EventPipeline
from ..streams.transport.app import batch_of, is_current, settle
from ..streams.transport.schema import BatchSchema
from ..streams.transport.waiting import all_that_waits
from . import metrics
from .faust_app import WorkerApp, make_app
from .results import AcknowledgedResults, ResultSink
from .settings import Guarantee, Settings
from .transactions import TransactionalResults

__all__ = ["largest_anomaly", "make_scorer"]

_AGENT_NAME: Final = "score"

log = logging.getLogger(__name__)

_SCORED: Final = metrics.EVENTS.labels("scored")


def largest_anomaly(settings: Settings, package: ModelPackage) -> int:
    """Bytes of the largest record that this package may write to the store."""
    return anomaly_bytes_max(package.manifest, site=settings.site, topic=settings.topics.events)


def make_scorer(settings: Settings, package: ModelPackage) -> WorkerApp:
    """A Faust app with one agent that scores the events topic by `package`; the model is warm on return."""
    names = settings.topics
    outputs = (names.scored, names.anomalies, names.dead_letters)
    app = make_app(
        settings,
        group=settings.scorer_group,
        outputs=outputs,
        rewind_offsets=package.manifest.rewind_offsets,
    )
    pipeline = EventPipeline(
        package,
        site=settings.site,
        event_bytes_max=settings.event_bytes_max,
        batch_rows_max=_run_rows_max(settings, package),
    )
    log.info("events are read by %s", ", then ".join(pipeline.reader_names))
    results = _results(app, settings)
    app.pauses += [app.outbox.pause, results.pause]
    events = app.topic(names.events, schema=BatchSchema())

    @app.agent(events, name=_AGENT_NAME)
    async def score(stream: faust.StreamT) -> None:
        async for events in all_that_waits(stream, rows_max=pipeline.joined_rows_max):
            current = [event for event in events if is_current(event)]
            if current:
                with app.stopping_on_error():
                    _score(current, pipeline, results, names)

    @app.on_partitions_assigned.connect
    async def forget_devices(_app: faust.App, _assigned: set[TP], **_: object) -> None:
        # Nothing is handed out here, and what was handed out before is passed over: every partition is read
        # again from its horizon. A partition that went and came back would miss what lay in between.
        pipeline.forget_devices()

    app.close_with(results.close)
    app.close_with(app.outbox.close)
    return app


def _run_rows_max(settings: Settings, package: ModelPackage) -> int:
    """Measured before the worker joins its group, so that no event waits for a cold model."""
    manifest = package.manifest
    found = measure_batch_size(manifest, package.scorer.score, rows_max=settings.batch_rows_max)
    metrics.RUN_ROWS_MAX.set(found.rows)
    cost = found.seconds_a_row.get(found.rows)
    measured = "not measured: the model takes no trial rows" if cost is None else f"{cost * 1e6:.2f} µs a row"
    log.info("model %s runs with at most %d rows (%s)", manifest.label, found.rows, measured)
    return found.rows


def _results(app: WorkerApp, settings: Settings) -> ResultSink:
    if settings.guarantee is Guarantee.AT_LEAST_ONCE:
        return AcknowledgedResults(app.outbox)
    # One part is being committed while the other is scored.
    twice = app.transport_settings.outstanding_bytes_max * 2
    app.transport_settings = replace(app.transport_settings, outstanding_bytes_max=twice)
    results = TransactionalResults(app)
    app.offset_owner = results
    return results


def _score(
    events: Sequence[faust.Event], pipeline: EventPipeline, sink: ResultSink, names: TopicNames
) -> None:
    batches = list(map(batch_of, events))
    started = time.perf_counter()
    found = pipeline.process_all(batches, now_ms=time.time_ns() // 1_000_000)
    metrics.SCORING_SECONDS.observe(time.perf_counter() - started)
    metrics.BATCH_ROWS.observe(sum(map(len, batches)))
    metrics.DEVICE_MEMORY_BYTES.set(pipeline.memory_bytes)
    if rebuilt := sum(result.rebuilt for result in found):
        metrics.EVENTS_REBUILT.inc(rebuilt)
    for event, result in zip(events, found, strict=True):
        parcels = [
            (topic, columns)
            for topic, columns in (
                # The broker writes one after the other, and may flush each: what most readers wait for first.
                (names.scored, result.scored),
                (names.anomalies, result.anomalies),
                (names.dead_letters, result.dead_letters),
            )
            if len(columns)
        ]
        sink.put(event, parcels, partial(_settled, event, result))


def _settled(event: faust.Event, result: BatchResult) -> None:
    """Count outcomes only now: what a crash repeats was never counted."""
    settle(event)
    for counter, count in (
        (_SCORED, len(result.scored)),
        (metrics.WINDOW_COLD, result.windows_cold),
        (metrics.ALARMS_RESTED, result.alarms_rested),
    ):
        if count:
            counter.inc(count)
    if result.rejections:
        for reason, count in Counter(rejection.reason for rejection in result.rejections).items():
            metrics.EVENTS.labels(reason.value).inc(count)
    if result.severities:
        for severity, count in Counter(result.severities).items():
            metrics.ANOMALIES.labels(severity).inc(count)
