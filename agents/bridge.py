"""The bridge agent: anomalies from the store to Event Hubs, settled one by one in `deliveries`.

For each batch of one partition, in order:
  1. Faust hands the agent the records; tombstones and damaged records never reach the link
  2. what the policy lets leave of each is packed into events, as many a batch as the link takes; others are
     held back
  3. each batch is sent until the service acknowledges it, however long that takes
  4. its outcomes are written to `deliveries`, and what left to `audit`
  5. when the broker has acknowledged those, the batch is settled and Faust commits its offsets
A crash between 3 and 5 sends again what was not committed, under the same ids. One agent sends one batch at
a time, so events of a device, which share a partition, arrive in order. While the uplink is away the agent
waits; the transport keeps the group membership and holds a bounded number of records in memory.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import faust

from ..streams.delivery.breaker import BackoffLimits
from ..streams.transport.app import batch_of, settle
from ..streams.transport.schema import BatchSchema
from . import metrics
from .departures import AUDIT_PARTITION, Outcomes
from .errors import SettingsError
from .faust_app import WorkerApp, make_app
from .hold_follower import HoldFollower
from .lag_reader import PartitionLag
from .notices import Notices
from .outbox import Settlement
from .policy_file import load_policy
from .sender import Sender
from .settings import Settings
from .store_keeper import StoreKeeper
from .uplink import EventHubUplink, UplinkLimits

__all__ = ["make_bridge"]

_AGENT_NAME: Final = "bridge"

# About one batch of the link: what a crash in mid-delivery sends again.
_POLL_ROWS_MAX: Final = 2_000


def make_bridge(settings: Settings) -> WorkerApp:
    """A Faust app with one agent that brings the anomalies topic to Event Hubs."""
    if settings.eventhub_connection_string is None:
        raise SettingsError(
            "FARSHORE_EVENTHUB_CONNECTION_STRING is not set; the bridge needs the hub's connection string"
        )
    names = settings.topics
    policy = load_policy(settings)
    app = make_app(
        settings, group=settings.bridge_group, outputs=(names.deliveries,), poll_rows_max=_POLL_ROWS_MAX
    )
    uplink = EventHubUplink(
        settings.eventhub_connection_string.get_secret_value(),
        settings.eventhub_name,
        UplinkLimits(settings.uplink_connect_seconds_max, settings.uplink_send_seconds_max),
    )
    sender = Sender(
        uplink,
        BackoffLimits(settings.uplink_backoff_seconds_min, settings.uplink_backoff_seconds_max),
        policy,
        settings.site,
        on_attempt=app.note_progress,
    )
    outbox = app.outbox
    app.pauses += [outbox.pause, sender.pause]

    def owned() -> frozenset[int]:
        return frozenset(
            part.partition for part in app.consumer.assignment() if part.topic == names.anomalies
        )

    keeper = StoreKeeper(settings, outbox, owned)
    anomalies = app.topic(names.anomalies, schema=BatchSchema())

    @app.agent(anomalies, name=_AGENT_NAME)
    async def bridge(stream: faust.StreamT) -> None:
        async for event in stream.noack().events():
            with app.stopping_on_error():
                batch = batch_of(event)
                outcomes = await sender.deliver(batch)
                settlement = Settlement(outcomes.parcels, partial(_settled, event, outcomes))
                # What left first: a delivery whose batch has no audit record would tell of an unknown policy.
                if len(outcomes.audit):
                    outbox.put(names.audit, AUDIT_PARTITION, outcomes.audit, settlement)
                if len(outcomes):
                    outbox.put(names.deliveries, batch.partition, outcomes.columns, settlement)
                    keeper.quota.settled(outcomes.columns.keys)

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
    app.close_with(uplink.discard)
    app.close_with(outbox.close)
    return app


def _note_waiting(group: str, keeper: StoreKeeper, lags: Sequence[PartitionLag]) -> None:
    """What the bridge has not committed, in offsets: an upper bound of the anomalies that wait.

    To count live ids alone the whole store behind the commit would have to be read every few seconds.
    """
    mine = [entry.lag.records for entry in lags if entry.group == group]
    metrics.ANOMALIES_WAITING.set(sum(mine) if mine else math.nan)
    if mine:
        keeper.note_waiting(sum(mine))


def _settled(event: faust.Event, outcomes: Outcomes) -> None:
    settle(event)
    for outcome, count in outcomes.counts.items():
        metrics.DELIVERIES.labels(outcome.value).inc(count)
