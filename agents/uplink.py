"""The way to Azure Event Hubs: the SDK's calls, whose errors are translated here.

Guarantees:
  every call returns within its deadline: no option of the SDK bounds a send, so each call is a task of our
  own that is cancelled, repeatedly if need be
  a client whose call was cut off, or that met an error of the connection, is given nothing more to send, and
  is closed as soon as what others have under way on it is over: a second send on it could splice two messages
  the SDK's hidden second try is off; trying again is the breaker's decision
  names are looked up before the SDK does it, in one thread of our own (`names.py`)
Not guaranteed: UplinkLostError does not say that the service has not stored the batch. Each event carries its
anomaly id, so that a receiver can drop repeats.
"""

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, Final, TypeVar

from azure.eventhub import EventDataBatch
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import EventHubError, OperationTimeoutError

from .errors import UplinkConfigError
from .hub_access import HubAccess
from .names import NameLookup, NameUnknownError
from .uplink_errors import UplinkBusyError, UplinkLostError, UplinkSilentError, UplinkTooLargeError

__all__ = [
    "EventHubUplink",
    "HubBatch",
    "UplinkLimits",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS_MAX: Final = 0.3
_CANCEL_TRIES: Final = 10
_CANCEL_PAUSE_SECONDS: Final = 0.05
_ANSWER_MARGIN: Final = 0.9
"""Share of our deadline after which the SDK gives up by itself, which leaves its client in order."""

# "server-busy" and "message-size-exceeded" as the SDK shortens AMQP's conditions.
_BUSY: Final = "server-busy"
_TOO_LARGE: Final = "message-size-exceeded"

_CLOSED_A_COLLECTION: Final = 16
_closed: Final = count(1)

_VAGUE: Final = frozenset({"", "socket-error", "client-error", "unknown-error"})

# What an event adds to a batch beside its own bytes: its data section's head.
_HEAD_SHORT_BYTES: Final = 5
_HEAD_LONG_BYTES: Final = 8
_SHORT_BYTES_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """The longest a call may take."""

    connect_seconds_max: float = 10.0
    send_seconds_max: float = 4.5


class _Link:
    """A client with what is known of its hub, and what is under way on it."""

    def __init__(self, client: EventHubProducerClient, partition_ids: tuple[str, ...]) -> None:
        self.client = client
        self.partition_ids = partition_ids
        self.bytes_max: dict[str, int] = {}
        self.locks = {name: asyncio.Lock() for name in partition_ids}
        self.in_flight = 0
        self.retired = False
        self.lost = False

    def check(self) -> None:
        if self.lost:
            raise UplinkLostError("the link was lost before the batch's turn")

    def partition_of(self, lane: int) -> str:
        return self.partition_ids[lane % len(self.partition_ids)]


@dataclass(slots=True)
class HubBatch:
    """Encoded events on their way to one partition of the hub."""

    link: _Link = field(repr=False)
    partition_id: str
    link_bytes_max: int
    bytes_max: int
    size_bytes: int
    events: list[bytes] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.events)

    def append(self, event: bytes) -> bool:
        """Add an encoded message; False when it does not fit any more.

        The first one may take all that the link takes, whatever `bytes_max` says.
        """
        head = _HEAD_SHORT_BYTES if len(event) <= _SHORT_BYTES_MAX else _HEAD_LONG_BYTES
        size = self.size_bytes + head + len(event)
        if size > (self.bytes_max if self.events else self.link_bytes_max):
            return False
        self.events.append(event)
        self.size_bytes = size
        return True


class EventHubUplink:
    """A producer for each partition of one hub, all made anew whenever one cannot be trusted."""

    def __init__(self, access: HubAccess, limits: UplinkLimits, names: NameLookup | None = None) -> None:
        self._access = access
        self._limits = limits
        self._names = names or NameLookup()
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._losses = 0

    @property
    def limits(self) -> UplinkLimits:
        """The longest a call may take."""
        return self._limits

    async def connect(self, lane: int) -> None:
        """Make sure of a link with a producer for the lane's partition; the link's limits are known then."""
        if self._is_open(lane) and not self._access.has_changed():
            return
        losses = self._losses
        async with self._connecting:
            if losses != self._losses:
                raise UplinkLostError("the link was lost while another lane connected")
            deadline = monotonic() + self._limits.connect_seconds_max
            if self._link is not None and self._access.has_changed():
                log.info("the hub's credentials have changed; connecting anew")
                await self._retire(self._link, lost=False)
            if self._is_open(lane):
                return  # another lane of this partition was quicker
            await self._look_up_names(deadline)
            link = self._link = self._link or await self._new_link(deadline)
            partition_id = link.partition_of(lane)
            link.in_flight += 1
            try:
                link.bytes_max[partition_id] = await self._bounded(
                    _open(link.client, partition_id), _left(deadline)
                )
            except BaseException:
                await self._retire(link, last=True)
                raise
            await self._finish(link)
            if link.lost:
                raise UplinkLostError("the link was lost while it was extended")

    def _is_open(self, lane: int) -> bool:
        return self._link is not None and self._link.partition_of(lane) in self._link.bytes_max

    def new_batch(self, lane: int, bytes_max: int | None = None) -> HubBatch:
        """An empty batch for the hub partition that serves `lane`: the same one for the life of a link."""
        link = self._link
        assert link is not None, "connect() comes first"
        partition_id = link.partition_of(lane)
        limit = link.bytes_max[partition_id]
        # An explicit partition id: a partition key would carry the device's name off the site.
        empty = EventDataBatch(max_size_in_bytes=limit, partition_id=partition_id)
        return HubBatch(link, partition_id, limit, min(limit, bytes_max or limit), empty.size_in_bytes)

    async def send(self, batch: HubBatch) -> None:
        """One attempt. Returns when the service has acknowledged the whole batch."""
        link = batch.link
        link.in_flight += 1
        try:
            # Lanes that share a partition wait here, not inside the deadline.
            async with link.locks[batch.partition_id]:
                link.check()
                seconds_max = self._limits.send_seconds_max
                await self._bounded(
                    link.client.send_batch(_as_sdk_batch(batch), timeout=seconds_max * _ANSWER_MARGIN),
                    seconds_max,
                )
        except (UplinkBusyError, UplinkTooLargeError):
            await self._finish(link)
            raise  # an answer of a sound link
        except BaseException:
            await self._retire(link, last=True)
            raise
        await self._finish(link)

    async def discard(self) -> None:
        """Throw the client away; the next `connect` makes a new one."""
        if self._link is not None:
            await self._retire(self._link)

    async def close(self) -> None:
        """The end: the client and what its credentials hold open."""
        await self.discard()
        await _within(self._access.close(), _CLOSE_SECONDS_MAX)

    async def _retire(self, link: _Link, *, last: bool = False, lost: bool = True) -> None:
        """Nothing new goes onto `link`; it is closed with the last call under way. `last`: ours is over."""
        self._losses += lost and not link.lost
        link.lost = link.lost or lost
        link.retired = True
        if link is self._link:
            self._link = None
        if last:
            await self._finish(link)
        elif link.in_flight == 0:
            await _close(link.client)

    async def _finish(self, link: _Link) -> None:
        """A call is over."""
        link.in_flight -= 1
        if link.retired and link.in_flight == 0:
            await _close(link.client)

    async def _look_up_names(self, deadline: float) -> None:
        seconds_max = _left(deadline)
        for host, port in self._access.addresses:
            try:
                await self._names.look_up(host, port, seconds_max)
            except NameUnknownError as error:
                raise UplinkLostError(str(error)) from None
            except TimeoutError:
                raise UplinkLostError(
                    f"no name server answered for {host} within {seconds_max:g} s"
                ) from None

    async def _new_link(self, deadline: float) -> _Link:
        try:
            client = self._access.new_client(_SingleTryClient)
        except UplinkConfigError as error:
            # It was good at the start; a file that is being replaced will be good again.
            raise UplinkLostError(str(error)) from None
        try:
            properties = await self._bounded(client.get_eventhub_properties(), _left(deadline))
        except BaseException:
            self._losses += 1
            await _close(client)
            raise
        return _Link(client, tuple(sorted(properties["partition_ids"], key=lambda name: (len(name), name))))

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds_max: float) -> T:  # as the SDK gives it
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds_max)
        except asyncio.CancelledError:
            await _end(task)
            raise
        if not done:
            await _end(task)
            raise UplinkSilentError(f"no answer within {seconds_max:g} s")
        try:
            return task.result()
        except EventHubError as error:
            raise _translated(error) from None
        except Exception as error:  # noqa: BLE001  on a torn connection the SDK's inside fails in any way
            raise UplinkLostError(_told(error, "")) from None
        except asyncio.CancelledError:
            raise UplinkLostError("the SDK cancelled its own call") from None


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

    async def open_partition(self, partition_id: str) -> int:
        """Connect the partition's producer now, under a deadline of its own; the link's limit in bytes."""
        await self._start_producer(partition_id, None)
        producer = self._producers[partition_id]
        await producer._open_with_retry()  # noqa: SLF001  a first send would do it within its own deadline
        return int(producer._max_message_size_on_link)  # noqa: SLF001


async def _open(client: EventHubProducerClient, partition_id: str) -> int:
    assert isinstance(client, _SingleTryClient)
    return await client.open_partition(partition_id)


def _left(deadline: float) -> float:
    return max(0.1, deadline - monotonic())


def _as_sdk_batch(batch: HubBatch) -> EventDataBatch:
    """The SDK's batch with our encoded messages in it, past its own slow encoder."""
    packed = EventDataBatch(max_size_in_bytes=batch.link_bytes_max, partition_id=batch.partition_id)
    packed._message[5].extend(batch.events)  # noqa: SLF001  the data sections; `add` would encode each event twice
    packed._count, packed._size = len(batch), batch.size_bytes  # noqa: SLF001
    return packed


def _translated(error: EventHubError) -> Exception:
    condition = str(getattr(error, "error", "") or "")
    text = f"{condition} {error.message}"
    if _BUSY in text:
        return UplinkBusyError(_BUSY)
    if _TOO_LARGE in text:
        return UplinkTooLargeError(_TOO_LARGE)
    told = _told(error, condition)
    return UplinkSilentError(told) if isinstance(error, OperationTimeoutError) else UplinkLostError(told)


def _told(error: Exception, condition: str) -> str:
    """One short line; a message of the SDK may hold the address, never the key or the token."""
    lines = str(getattr(error, "message", "") or error).splitlines()
    text = lines[0] if lines else ""
    # A socket's error says why in its text, an answer of the service in its condition.
    return f"{type(error).__name__}: {condition if condition not in _VAGUE else text}"[:300]


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
    await _within(client.close(), _CLOSE_SECONDS_MAX)
    # A client is a ring of some 80 kB that only a full collection finds, and those are rare in a process that
    # makes few objects: a thousand reconnects would hold 75 MB.
    if next(_closed) % _CLOSED_A_COLLECTION == 0:
        gc.collect()


async def _within(closing: Coroutine[Any, Any, None], seconds_max: float) -> None:
    task = asyncio.ensure_future(closing)
    done, _ = await asyncio.wait({task}, timeout=seconds_max)
    if not done:
        await _end(task)
    else:
        with contextlib.suppress(Exception):
            task.result()
