"""What a test's site is fed: a model, seeded events, a load of them, anomalies that are all made up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from farshore.local.sample import write_sample_package

FEATURES = ("flow", "pressure", "temperature", "vibration")


def make_package(folder: Path) -> Path:
    """The sample model for FEATURES, fitted to normal rows around 0."""
    rows = np.random.default_rng(7).normal(size=(2_000, len(FEATURES)))
    return write_sample_package(folder, rows, FEATURES, name="sample", version="1")


def anomaly_record(number: int, readings: int = 4) -> dict[str, Any]:
    """A record of the store that is all made up but valid; some 20 bytes a reading and 400 more."""
    return {
        "id": f"{number:032x}",
        "site": "north",
        "device": f"pump-{number % 8}",
        "time": 1_700_000_000_000 + number,
        "score": 50.0,
        "threshold": 1.0,
        "severity": "high",
        "model": "sample@1",
        "model_digest": "sha256:" + "0" * 64,
        "contributions": None,
        "readings": {f"reading-{index:06}": 40.0 for index in range(readings)},
        "source": {"topic": "events", "partition": number % 4, "offset": number},
        "detected_at": 1_700_000_000_000,
    }


class EventSource:
    """Events of some devices, seeded; `anomaly_share` of them far outside of what is normal."""

    def __init__(self, seed: int = 1, devices: int = 12, anomaly_share: float = 0.03) -> None:
        self._random = np.random.default_rng(seed)
        self._devices = devices
        self._anomaly_share = anomaly_share
        self._made = 0

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """Key and value of the next events."""
        rows = self._random.normal(size=(count, len(FEATURES)))
        rows[self._random.random(count) < self._anomaly_share] += 40.0
        events = []
        for row in rows.tolist():
            device = f"pump-{self._made % self._devices}"
            value = {
                "device": device,
                "time": 1_700_000_000_000 + self._made,
                "readings": dict(zip(FEATURES, row, strict=True)),
            }
            events.append((device.encode(), orjson.dumps(value)))
            self._made += 1
        return events


class Load:
    """Publishes events of a source until told to stop."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, source: EventSource, rate: int) -> None:
        self._producer = producer
        self._topic = topic
        self._source = source
        self._rate = rate
        self.stopping = False
        self.published = 0

    async def run(self) -> None:
        """One tenth of a second's events at a time."""
        while not self.stopping:
            events = self._source.take(self._rate // 10)
            sent = [await self._producer.send(self._topic, value, key=key) for key, value in events]
            await asyncio.gather(*sent)
            self.published += len(sent)
            await asyncio.sleep(0.1)
