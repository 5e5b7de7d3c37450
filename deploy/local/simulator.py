"""A fleet of simulated machines: correlated sensors, and injected faults that are labelled.

Each machine has eight sensors driven by three hidden loads (speed, load, ambient heat) with a level of its
own, so that a healthy row lies near a plane that a PCA finds. A fault lasts some rows and breaks the plane in
one of four ways: a bias on one sensor, a stuck sensor, a spike, or a lost correlation. Its size is in
standard deviations of the sensor, so a smaller fault is harder to see.

The same seed gives the same rows, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..streams.scoring.codec import encode

__all__ = ["SENSORS", "Block", "Fleet", "FleetSettings", "hostile_values"]

SENSORS: Final = (
    "temperature",
    "vibration",
    "pressure",
    "flow",
    "current",
    "voltage",
    "speed",
    "torque",
)
_CENTRE: Final = np.array([71.0, 2.4, 6.2, 118.0, 14.0, 230.0, 1480.0, 92.0])
_SPREAD: Final = np.array([4.0, 0.3, 0.4, 9.0, 1.5, 3.0, 40.0, 8.0])
_LOADS: Final = 3
_NOISE: Final = 0.12
_EPOCH_MS: Final = 1_700_000_000_000
_ROW_MS: Final = 1_000
# How sensors follow the hidden loads: the plant's, the same for every fleet and seed.
_MIXING: Final = np.random.default_rng(7).normal(size=(_LOADS, len(SENSORS)))

Rows = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """`fault_share` of the rows lie in a fault; `fault_size` is in standard deviations of a sensor."""

    seed: int
    machines: int = 60
    fault_share: float = 0.01
    fault_size: float = 3.0
    fault_rows: int = 12


@dataclass(frozen=True, slots=True)
class Block:
    """One row for each machine and step, step by step: `readings` is (rows, sensors), `faulty` (rows,)."""

    devices: Sequence[str]
    times_ms: Sequence[int]
    readings: Rows
    faulty: Labels

    def __len__(self) -> int:
        return len(self.devices)

    def events(self) -> list[tuple[bytes, bytes]]:
        """Key and value of each row, in the default layout."""
        return [
            (
                device.encode(),
                encode({"device": device, "time": time, "readings": dict(zip(SENSORS, row, strict=True))}),
            )
            for device, time, row in zip(self.devices, self.times_ms, self.readings.tolist(), strict=True)
        ]


class Fleet:
    """Machines that go on from block to block."""

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(settings.seed)
        self._names = [f"machine-{number:03d}" for number in range(settings.machines)]
        self._loads = self._rng.normal(size=(settings.machines, _LOADS))
        self._fault_left = np.zeros(settings.machines, dtype=np.int64)
        self._fault_kind = np.zeros(settings.machines, dtype=np.int64)
        self._fault_sensor = np.zeros(settings.machines, dtype=np.int64)
        self._held = np.zeros((settings.machines, len(SENSORS)))
        self._step = 0

    def block(self, steps: int) -> Block:
        """The next `steps` rows of every machine."""
        rows = [self._next_step() for _ in range(steps)]
        first = self._step - steps
        return Block(
            devices=self._names * steps,
            times_ms=[_EPOCH_MS + (first + step) * _ROW_MS for step in range(steps) for _ in self._names],
            readings=np.round(np.concatenate([readings for readings, _ in rows]), 4),
            faulty=np.concatenate([faulty for _, faulty in rows]),
        )

    def _next_step(self) -> tuple[Rows, Labels]:
        self._step += 1
        count = self._settings.machines
        # Loads wander and return to their mean, as a shift's work does.
        self._loads = 0.95 * self._loads + np.sqrt(1 - 0.95**2) * self._rng.normal(size=(count, _LOADS))
        normal = self._loads @ _MIXING / np.sqrt(_LOADS) + _NOISE * self._rng.normal(
            size=(count, len(SENSORS))
        )
        self._begin_faults(normal)
        faulty = self._fault_left > 0
        self._distort(normal, faulty)
        self._fault_left[faulty] -= 1
        return _CENTRE + normal * _SPREAD, faulty

    def _begin_faults(self, normal: Rows) -> None:
        settings = self._settings
        chance = settings.fault_share / settings.fault_rows
        starting = (self._rng.random(settings.machines) < chance) & (self._fault_left == 0)
        self._fault_left[starting] = settings.fault_rows
        self._fault_kind[starting] = self._rng.integers(4, size=starting.sum())
        self._fault_sensor[starting] = self._rng.integers(len(SENSORS), size=starting.sum())
        self._held[starting] = normal[starting]

    def _distort(self, normal: Rows, faulty: Labels) -> None:
        size = self._settings.fault_size
        for machine in np.flatnonzero(faulty):
            sensor, kind = self._fault_sensor[machine], self._fault_kind[machine]
            if kind == 0:  # a bias
                normal[machine, sensor] += size
            elif kind == 1:  # stuck, off the value it had
                normal[machine, sensor] = self._held[machine, sensor] + size
            elif kind == 2:  # spikes to either side
                normal[machine, sensor] += size * self._rng.choice((-1.0, 1.0))
            else:  # the sensor no longer follows the others
                normal[machine, sensor] = size * self._rng.normal()


def hostile_values(seed: int, count: int) -> list[bytes]:
    """Values that no application should send, for the dead letters: one of each kind in turn."""
    rng = np.random.default_rng(seed)
    reading = {name: float(value) for name, value in zip(SENSORS, _CENTRE, strict=True)}
    event = {"device": "machine-000", "time": _EPOCH_MS, "readings": reading}
    kinds = [
        b"{not json",
        b"[1, 2, 3]",
        b"\xff\xfe\x00",
        b"",
        encode({**event, "time": None}),
        encode({**event, "readings": {**reading, "flow": "118.0"}}),
        encode({**event, "readings": {name: reading[name] for name in SENSORS[1:]}}),
        encode(event).replace(b"1480.0", b"1e39"),
    ]
    return [kinds[int(number)] for number in rng.permutation(np.arange(count) % len(kinds))]
