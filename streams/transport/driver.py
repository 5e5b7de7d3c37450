"""The transport under its own URL scheme, `farshore://`, found by Faust's `faust.transports` entry points."""

from typing import ClassVar

from faust.transport.drivers.aiokafka import Transport as AIOKafkaTransport

from .consumer import BatchConsumer
from .producer import BatchProducer

__all__ = ["Transport"]


class Transport(AIOKafkaTransport):
    """aiokafka underneath, batches on top."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[BatchProducer]] = BatchProducer
