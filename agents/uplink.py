"""The way to Azure Event Hubs: the one home of the azure SDK, whose errors are translated here.

Guarantees:
  every call returns within its deadline: no option of the SDK bounds a send, so each call is a task of our
  own that is cancelled, repeatedly if need be
  a client whose call was cut off, or that met an error of the connection, is thrown away and never used
  again: a second send on it can splice two messages into one
  the SDK's hidden second try is off; trying again is the breaker's decision
Not guaranteed: UplinkLostError does not say that the service has not stored the batch. Each event carries its
anomaly id, so that a receiver can drop repeats.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from azure.eventhub import EventData, EventDataBatch
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from .errors import UplinkConfigError

__all__ = [
    "EventHubUplink",
    "UplinkBusyError",
    "UplinkLimits",
    "UplinkLostError",
    "UplinkTooLargeError",
    "append",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS_MAX: Final = 0.3
_CANCEL_TRIES: Final = 10
_CANCEL_PAUSE_SECONDS: Final = 0.05
_SEND_ACK_SECONDS_MAX: Final = 2
_EVENT_OVERHEAD_BYTES_MAX: Final = 512
_KEEP_ALIVE_SECONDS: Final = 30

# "server-busy" and "message-size-exceeded" as the SDK shortens AMQP's conditions.
_BUSY: Final = "server-busy"
_TOO_LARGE: Final = "message-size-exceeded"


class UplinkLostError(Exception):
    """The link failed, or did not answer in time; whether the batch arrived is not known."""


class UplinkBusyError(Exception):
    """The service is there and too busy; the batch was not stored."""


class UplinkTooLargeError(Exception):
    """The service takes no batch of this size; it was not stored."""


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """The longest a call may take."""

    connect_seconds_max: float = 10.0
    send_seconds_max: float = 4.5


class _SingleTryClient(EventHubProducerClient):
    """The SDK's client without its hidden second try.

    After any failed send it makes sure of a producer and sends the batch again at once, whatever the options
    say: a busy service would be pressed and a batch whose acknowledgement was lost stored twice.
    """

    async def _start_producer(self, partition_id: str, send_timeout: float | None) -> None:
        error = sys.exception()
        # A first send has no producer yet; that is the one failure after which the SDK has to go on.
        if error is not None and self._producers.get(partition_id) is not None:
            raise error
        await super()._start_producer(partition_id, send_timeout)


@dataclass(frozen=True, slots=True)
class _Link:
    client: EventHubProducerClient
    partition_ids: tuple[str, ...]
    batch_bytes_max: int


class EventHubUplink:
    """One producer to one hub, made anew whenever the last one cannot be trusted."""

    def __init__(self, connection_string: str, hub: str | None, limits: UplinkLimits) -> None:
        self._connection_string = connection_string
        self._hub = hub
        self._limits = limits
        self._link: _Link | None = None
        # A wrong connection string is a user's mistake and shows before anything is sent.
        _new_client(connection_string, hub)

    async def connect(self) -> None:
        """Make sure of a link: its partitions and its size limit are known afterwards."""
        if self._link is not None:
            return
        client = _new_client(self._connection_string, self._hub)
        try:
            partition_ids, batch_bytes_max = await self._bounded(
                _examine(client), self._limits.connect_seconds_max
            )
        except BaseException:
            await _close(client)
            raise
        self._link = _Link(client, partition_ids, batch_bytes_max)

    def new_batch(self, lane: int) -> EventDataBatch:
        """An empty batch for the hub partition that serves `lane`: the same one for the life of a link."""
        assert self._link is not None, "connect() comes first"
        ids = self._link.partition_ids
        # An explicit partition id: a partition key would carry the device's name off the site.
        return EventDataBatch(max_size_in_bytes=self._link.batch_bytes_max, partition_id=ids[lane % len(ids)])

    async def send(self, batch: EventDataBatch) -> None:
        """One attempt. Returns when the service has acknowledged the whole batch."""
        assert self._link is not None, "connect() comes first"
        client = self._link.client
        try:
            await self._bounded(
                client.send_batch(batch, timeout=_SEND_ACK_SECONDS_MAX), self._limits.send_seconds_max
            )
        except (UplinkBusyError, UplinkTooLargeError):
            raise  # an answer of a sound link
        except BaseException:
            await self.discard()
            raise

    async def discard(self) -> None:
        """Throw the client away; the next `connect` makes a new one."""
        link, self._link = self._link, None
        if link is not None:
            await _close(link.client)

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds_max: float) -> T:  # as the SDK gives it
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds_max)
        except asyncio.CancelledError:
            await _end(task)
            raise
        if not done:
            await _end(task)
            raise UplinkLostError(f"no answer within {seconds_max:g} s")
        try:
            return task.result()
        except EventHubError as error:
            raise _translated(error) from None
        except Exception as error:  # noqa: BLE001  on a torn connection the SDK's inside fails in any way
            raise UplinkLostError(f"{type(error).__name__}: {error}"[:200]) from None
        except asyncio.CancelledError:
            raise UplinkLostError("the SDK cancelled its own call") from None


def append(batch: EventDataBatch, body: bytes) -> bool:
    """Add an event to a batch; False when it does not fit any more.

    Any other refusal of the SDK passes as its ValueError: an anomaly must not be set aside for it.
    """
    event = EventData(body)
    event.content_type = "application/json"
    try:
        batch.add(event)
    except ValueError:
        if batch.size_in_bytes + len(body) + _EVENT_OVERHEAD_BYTES_MAX <= batch.max_size_in_bytes:
            raise
        return False
    return True


async def _examine(client: EventHubProducerClient) -> tuple[tuple[str, ...], int]:
    properties = await client.get_eventhub_properties()
    ids = tuple(sorted(properties["partition_ids"], key=lambda name: (len(name), name)))
    # The link's own limit is known only after it is attached.
    batch = await client.create_batch(partition_id=ids[0])
    return ids, int(batch.max_size_in_bytes)


def _new_client(connection_string: str, hub: str | None) -> EventHubProducerClient:
    try:
        return _SingleTryClient.from_connection_string(
            connection_string,
            eventhub_name=hub,
            retry_total=0,
            retry_mode="fixed",
            retry_backoff_factor=0.05,
            retry_backoff_max=1,
            keep_alive=_KEEP_ALIVE_SECONDS,
        )
    except (ValueError, KeyError, TypeError):
        # The SDK's message may quote the string, which holds a secret.
        raise UplinkConfigError(
            "FARSHORE_EVENTHUB_CONNECTION_STRING is not usable: expected "
            "Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=<hub>, "
            "or the hub's name in FARSHORE_EVENTHUB_NAME"
        ) from None


def _translated(error: EventHubError) -> Exception:
    condition = str(getattr(error, "error", "") or "")
    text = f"{condition} {error.message}"
    if _BUSY in text:
        return UplinkBusyError(_BUSY)
    if _TOO_LARGE in text:
        return UplinkTooLargeError(_TOO_LARGE)
    return UplinkLostError(f"{type(error).__name__}: {condition or error.message}"[:200])


async def _end(task: "asyncio.Task[Any] | asyncio.Future[Any]") -> None:  # any call of the SDK
    """Cancel until it is over: the SDK swallows a cancellation now and then."""
    for _ in range(_CANCEL_TRIES):
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_CANCEL_PAUSE_SECONDS)
        if done:
            with contextlib.suppress(BaseException):
                task.result()
            return
    log.debug("a call of the SDK does not end; it is left behind")


async def _close(client: EventHubProducerClient) -> None:
    task = asyncio.ensure_future(client.close())
    done, _ = await asyncio.wait({task}, timeout=_CLOSE_SECONDS_MAX)
    if not done:
        await _end(task)
    else:
        with contextlib.suppress(Exception):
            task.result()
