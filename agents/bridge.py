"""The bridge agent: anomalies from the store to Event Hubs, settled one by one in `deliveries`.

For each batch of one partition, in order:
  1. Faust hands the agent the records, which go to the partition's lane
  2. what `deliveries` holds of the partition is known; settled ones, tombstones and damaged records never
     reach the link; where the severest go first, those of the whole backlog are sent before the rest of these
     (`severe_first.py`); what comes while a backlog drains may be sent beside it (`live_ahead.py`)
  3. what the policy lets leave of each anomaly is packed into events, as many a batch as the link takes
  4. each batch is sent until the service acknowledges it, however long that takes
  5. its outcomes are written to `deliveries`, and what left to `audit`; the lane sends one batch more before
     they are acknowledged there
  6. when all outcomes are, the records are settled and Faust commits their offsets
A crash between 4 and 5 sends again what was under way, under the same ids: two hub batches a lane at most.
One lane sends one batch at a time, so events of a device, which share a partition, arrive in order. While
the uplink is away the lanes wait; the transport keeps the group membership and holds a bounded number of
records in memory.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

import faust
from faust.types import TP

from ..streams.delivery.breaker import BackoffLimits
from ..streams.delivery.share import Traffic
from ..streams.transport.app import batch_of, settle
from ..streams.transport.batch import PartitionBatch
from ..streams.transport.consumer import BatchConsumer
from ..streams.transport.schema import BatchSchema
from . import metrics
from .backlog import Backlog
from .departures import Origin, Outcomes
from .faust_app import WorkerApp, make_app
from .hold_follower import HoldFollower
from .hub_access import hub_access
from .hub_event import EventEncoder
from .lag_reader import PartitionLag
from .lanes import Lanes
from .leaving import leaving_of
from .live_ahead import LiveAhead
from .notices import Notices
from .outbox import Settlement
from .outcome_writer import OutcomeWriter
from .policy_file import load_policy
from .sender import Sender, SenderLimits
from .settings import Settings
from .settled_ids import SettledIds
from .severe_first import SevereFirst
from .store_keeper import StoreKeeper
from .uplink import EventHubUplink, UplinkLimits

__all__ = ["make_bridge"]

_AGENT_NAME: Final = "bridge"

_POLL_ROWS_MAX: Final = 2_000


def make_bridge(settings: Settings) -> WorkerApp:
    """A Faust app with one agent that brings the anomalies topic to Event Hubs."""
    policy = load_policy(settings)
    uplink = EventHubUplink(
        hub_access(settings),
        UplinkLimits(settings.uplink_connect_seconds_max, settings.uplink_send_seconds_max),
    )
    names = settings.topics
    app = make_app(
        settings,
        group=settings.bridge_group,
        outputs=(names.deliveries,),
        poll_rows_max=_POLL_ROWS_MAX,
        outstanding_bytes_max=settings.bridge_outstanding_bytes_max,
    )
    encoder = EventEncoder(policy.source_of(settings.site))
    sender = Sender(uplink, encoder, _sender_limits(settings), on_attempt=app.note_progress)
    outbox = app.outbox
    settled = SettledIds(settings.kafka_bootstrap, names.deliveries, app.note_progress)
    app.pauses += [outbox.pause, sender.pause, settled.pause]

    def owned() -> frozenset[int]:
        return frozenset(tp.partition for tp in app.consumer.assignment() if tp.topic == names.anomalies)

    keeper = StoreKeeper(settings, outbox, owned, settled.note)

    async def deliver(event: faust.Event) -> None:
        batch = batch_of(event)
        await know(batch.partition, batch.offsets[0], batch.timestamps_ms[0])
        _forget_committed(app, settled, batch)
        async with live_ahead.lane(batch) if live_ahead is not None else nullcontext():
            if severe_first is not None:
                await severe_first.before(batch)
            await deliver_batch(batch, partial(settle, event))

    async def deliver_batch(
        batch: PartitionBatch,
        on_settled: Callable[[], None] = lambda: None,
        traffic: Traffic = Traffic.BACKLOG,
    ) -> bool:
        generation = app.consumer_generation_id
        settlement = Settlement(1, on_settled)
        writer = OutcomeWriter(outbox, names, batch.partition, settlement)

        def on_outcome(offset: int, key: bytes) -> None:
            settled.add(batch.partition, offset, key)
            keeper.quota.settled((key,))

        origin = Origin(settings.site, batch.partition, policy)
        outcomes = Outcomes(on_outcome, writer.write, origin)
        leaving = leaving_of(batch, settled, outcomes, policy)
        if not await sender.deliver(
            batch.partition, leaving, outcomes, lambda: generation == app.consumer_generation_id, traffic
        ):
            return False  # never settled: its next owner is given it again
        settlement.parcel_done()
        return True

    async def know(partition: int, offset: int, time_ms: int) -> None:
        app.note_progress()
        await settled.know(partition, offset, time_ms, app.consumer_generation_id)

    backlog = Backlog(
        generation=lambda: app.consumer_generation_id,
        assigned=lambda: set(owned()),
        know=know,
        deliver=deliver_batch,
    )
    live_ahead = severe_first = None
    if settings.drain_live_fraction is not None:
        live = replace(backlog, deliver=partial(deliver_batch, traffic=Traffic.LIVE))
        live_ahead = LiveAhead(
            settings.kafka_bootstrap, names.anomalies, live, lambda: sender.breaker.state.is_there
        )
        backlog = replace(backlog, mark_of=live_ahead.mark_of)
        app.task(live_ahead.run)
    if settings.drain == "severe-first":
        severe_first = SevereFirst(settings.kafka_bootstrap, names.anomalies, settings.bridge_group, backlog)
    lanes = Lanes(app, deliver)

    @app.agent(app.topic(names.anomalies, schema=BatchSchema()), name=_AGENT_NAME)
    async def bridge(stream: faust.StreamT) -> None:
        async for event in stream.noack().events():
            lanes.put(event)

    @app.task
    async def keep() -> None:
        await keeper.run()

    @app.task
    async def notify() -> None:
        await Notices(settings, sender, policy, outbox, owned).run()

    @app.task
    async def follow() -> None:
        await HoldFollower(settings, sender, outbox).run()

    app.lag_listeners.append(partial(_note_waiting, settings.bridge_group, keeper))
    app.close_with(lanes.close)
    app.close_with(uplink.close)
    app.close_with(outbox.close)
    return app


def _sender_limits(settings: Settings) -> SenderLimits:
    return SenderLimits(
        BackoffLimits(settings.uplink_backoff_seconds_min, settings.uplink_backoff_seconds_max),
        settings.uplink_batches_max,
        settings.uplink_kbits_per_second_max,
        settings.uplink_events_per_second_max,
        settings.uplink_pack_anomalies_max,
        settings.drain_live_fraction,
    )


def _forget_committed(app: WorkerApp, settled: SettledIds, batch: PartitionBatch) -> None:
    consumer = app.consumer
    assert isinstance(consumer, BatchConsumer)
    committed = consumer.ledger.committed(TP(batch.topic, batch.partition))
    if committed is not None:
        settled.forget_below(batch.partition, committed)


def _note_waiting(group: str, keeper: StoreKeeper, lags: Sequence[PartitionLag]) -> None:
    """What the bridge has not committed, in offsets: an upper bound of the anomalies that wait.

    To count live ids alone the whole store behind the commit would have to be read every few seconds.
    """
    mine = [entry.lag.records for entry in lags if entry.group == group]
    metrics.ANOMALIES_WAITING.set(sum(mine) if mine else math.nan)
    if mine:
        keeper.note_waiting(sum(mine))
