"""Sends stored anomalies again: the same record anew in the store, marked with the request that asked for it.

Guarantee: works with the uplink away, since the request is the record itself: the bridge reads it like any
other, in order, and it leaves, and is settled, with the mark. Its id stays, so a receiver can still drop it.
Each anomaly is written before the next is read: an interrupted request has sent what it has counted.
"""

import uuid
from collections.abc import AsyncIterator
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..streams.scoring.codec import encode
from .errors import FarshoreError
from .settings import Settings
from .store import WAITING, Stored, open_store
from .store_selection import StoreSelection, decoded

__all__ = ["new_request", "resend"]

_REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
_IN_FLIGHT_MAX: Final = 500


def new_request() -> str:
    """A name for a request: 32 hexadecimal digits."""
    return uuid.uuid4().hex


async def resend(settings: Settings, selection: StoreSelection, request: str | None) -> int:
    """How many were written to be sent again, marked with `request`; None only counts. FarshoreError.

    What waits is left out: it is going to be sent. So is what is damaged.
    """
    async with open_store(settings) as store:
        if request is None:
            return sum([1 async for _ in _meant(store.anomalies(selection.takes), selection)])
        return await _write(settings, _meant(store.anomalies(selection.takes), selection), request)


async def _meant(found: AsyncIterator[Stored], selection: StoreSelection) -> AsyncIterator[Stored]:
    async for stored in found:
        state = stored.state
        if state != WAITING and (not selection.states or state in selection.states):
            yield stored


async def _write(settings: Settings, meant: AsyncIterator[Stored], request: str) -> int:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=_REQUEST_BYTES_MAX,
    )
    await producer.start()
    count, in_flight = 0, []
    try:
        async for stored in meant:
            assert stored.record is not None
            anomaly = decoded(stored.record.value)
            if anomaly is None:
                continue
            in_flight.append(
                await producer.send(
                    settings.topics.anomalies,
                    encode(anomaly | {"resent": request}),
                    key=stored.key,
                    partition=stored.partition,
                )
            )
            if len(in_flight) >= _IN_FLIGHT_MAX:
                count += await _acknowledged(in_flight)
                in_flight = []
        return count + await _acknowledged(in_flight)
    except KafkaError as error:
        raise FarshoreError(
            f"after {count} the broker took no more: {type(error).__name__}: {error}"
        ) from None
    finally:
        await producer.stop()


async def _acknowledged(futures: list[object]) -> int:
    for future in futures:
        await future  # type: ignore[misc]  # aiokafka comes untyped
    return len(futures)
