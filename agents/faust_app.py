"""A Faust app over the batch transport, with every setting that matters set on purpose."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from aiokafka.errors import KafkaError
from faust.types import TP

from ..streams.liveness import Sighting, Tail, what_waits
from ..streams.transport.app import SERVICE_LOG, BatchApp
from ..streams.transport.settings import TransportSettings
from .audit import AuditWatch
from .errors import FarshoreError
from .lag_reader import PartitionLag
from .outbox import Outbox
from .output_room import OutputRoom
from .settings import Settings

__all__ = ["POLL_ROWS_MAX", "WorkerApp", "make_app"]

POLL_ROWS_MAX: Final = 8_000

log = logging.getLogger(__name__)

# Batches, not records; the transport's own limits are far below.
_STREAM_BUFFER_BATCHES: Final = 4_096
_HEARTBEATS_A_SESSION: Final = 5
_KNOWN_CAUSES: Final = (type(None), KafkaError, OSError)


class WorkerApp(BatchApp):
    """A Faust app whose process ends, with one line, on an error that no retry mends.

    Faust would restart a failed agent alone and leave the batch it held neither settled nor read again; a
    new process reads everything that is not committed.
    """

    logger = SERVICE_LOG
    outbox: Outbox

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fatal: BaseException | None = None
        self.ended = asyncio.Event()
        self.lag_listeners: list[Callable[[Sequence[PartitionLag]], None]] = []
        self.pauses: list[Callable[[], str | None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._main_loop: asyncio.AbstractEventLoop | None = None

    def stop_on_error(self, error: BaseException) -> None:
        """Note the first error; whoever runs the app waits for `ended` and stops it."""
        if self.fatal is None:
            self.fatal = error
            # What a user can put right is one line; anything else is a fault of ours and needs its trace.
            # So is what a Kafka client met and did not expect: only the cause says what happened.
            known = isinstance(error, KafkaError | FarshoreError) and isinstance(
                error.__cause__, _KNOWN_CAUSES
            )
            log.error("stopping: %s: %s", type(error).__name__, error, exc_info=None if known else error)
        self.ended.set()

    def end(self, error: FarshoreError) -> None:
        """End the process for a reason that is already told."""
        if self.fatal is None:
            self.fatal = error
        self.ended.set()

    def sighting(self, tails: Collection[Tail[TP]]) -> Sighting:
        """What is to be seen of this worker now; `tails` is what its group has not committed."""
        if self.should_stop:
            return Sighting(self.progress, None, "stopping")
        consumer = self._consumer
        rows = consumer.ledger.rows_outstanding if consumer is not None else 0
        positions = consumer.positions() if consumer is not None and consumer.started else None
        pause = next(filter(None, (pause() for pause in self.pauses)), None)
        return Sighting(self.progress, what_waits(rows, positions, tails), pause)

    @contextmanager
    def stopping_on_error(self) -> Iterator[None]:
        """Errors inside end the process; cancellation passes."""
        try:
            yield
        except Exception as error:
            self.stop_on_error(error)
            raise

    async def on_first_start(self) -> None:
        """Remember the loop of the app: a crash may be told by the reader's thread."""
        self._main_loop = asyncio.get_running_loop()
        await super().on_first_start()

    def _crash(self, reason: BaseException) -> None:
        # Whatever part of Faust crashes ends here, from any thread; Faust by itself would only go silent.
        super()._crash(reason)
        if self._main_loop is not None and not self._stopped.is_set():
            self._main_loop.call_soon_threadsafe(self.stop_on_error, reason)

    def note_lags(self, lags: Sequence[PartitionLag]) -> None:
        """Tell those who listen of the site's consumer lags, as often as they are read."""
        for listener in self.lag_listeners:
            listener(lags)

    def _create_directories(self) -> None:
        """No tables, so no folder: a worker must start where it may not write."""

    def close_with(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call `close` when the app stops, after the last batches are settled."""
        self._closers.append(close)

    async def on_stop(self) -> None:
        """Settle and commit what is in hand, within a bound, then close what was registered, then Faust."""
        if self._consumer is not None and self._consumer.started:
            await self._consumer.drain()
        for close in self._closers:
            await close()
        await super().on_stop()


def make_app(
    settings: Settings,
    *,
    group: str,
    outputs: Collection[str],
    poll_rows_max: int = POLL_ROWS_MAX,
    rewind_offsets: int = 0,
) -> WorkerApp:
    """An app that reads committed records in `group` and writes to `outputs`, by its outbox.

    Each assignment begins `rewind_offsets` before the commit. Topics are made and checked by `admin.py`
    alone.
    """
    session_seconds = settings.kafka_session_timeout_seconds
    app = WorkerApp(
        group,
        broker="farshore://" + settings.kafka_bootstrap.replace(",", ";").replace(" ", ""),
        broker_client_id=group,
        broker_commit_interval=settings.commit_interval_seconds,
        broker_heartbeat_interval=session_seconds / _HEARTBEATS_A_SESSION,
        broker_max_poll_interval=settings.kafka_max_poll_interval_seconds,
        broker_request_timeout=settings.kafka_request_timeout_seconds,
        broker_session_timeout=session_seconds,
        consumer_metadata_max_age_ms=int(settings.kafka_metadata_age_seconds_max * 1000),
        producer_metadata_max_age_ms=int(settings.kafka_metadata_age_seconds_max * 1000),
        producer_request_timeout=settings.kafka_request_timeout_seconds,
        stream_buffer_maxsize=_STREAM_BUFFER_BATCHES,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport_settings = TransportSettings(
        isolation_level="read_committed",
        poll_rows_max=poll_rows_max,
        poll_bytes_max=min(settings.batch_bytes_max, settings.outstanding_bytes_max),
        outstanding_bytes_max=settings.outstanding_bytes_max,
        request_bytes_max=settings.topic_event_bytes_max * 2,
        life_check_seconds=settings.kafka_metadata_age_seconds_max,
        rewind_offsets=rewind_offsets,
        transaction_seconds_max=settings.transaction_seconds_max,
    )
    app.outbox = Outbox(lambda: app.producer, app.stop_on_error)
    room = OutputRoom(settings, outputs, lambda: app.producer)
    app.reading_watch = AuditWatch(settings, group, app.outbox, room)
    return app
