"""The arrays of readings: their size is the lookback's, whoever sends."""

from __future__ import annotations

import numpy as np

from farshore.streams.scoring.history import DeviceHistory, reading_bytes

LOOKBACK, BATCH, FEATURES = 20_000, 2_000, 16


def feed(history: DeviceHistory, batch: int, names: list[str]) -> int:
    offsets = np.arange(batch * BATCH, (batch + 1) * BATCH)
    return history.append(names, offsets, np.zeros((BATCH, FEATURES), np.float32))


def new_history() -> DeviceHistory:
    return DeviceHistory(lookback_offsets=LOOKBACK, feature_count=FEATURES, dtype=np.float32)


def test_a_million_devices_cost_no_more_than_the_readings_within_the_lookback() -> None:
    history = new_history()
    largest = (LOOKBACK + BATCH) * 5 // 4
    devices_most = bytes_most = 0
    for batch in range(500):
        feed(history, batch, [f"unit-{number}" for number in range(batch * BATCH, (batch + 1) * BATCH)])
        devices_most = max(devices_most, history.device_count)
        bytes_most = max(bytes_most, history.size_bytes)
    assert LOOKBACK <= devices_most <= largest
    # The numbers of devices grow by halves.
    assert bytes_most <= largest * reading_bytes(FEATURES, np.float32) * 1.2


def test_devices_that_come_back_are_not_forgotten_and_their_windows_are_whole() -> None:
    history = new_history()
    names = [f"unit-{number % 500}" for number in range(BATCH)]
    for batch in range(60):
        first = feed(history, batch, names)
        windows, cold = history.windows(first, first + BATCH, 32)
        assert windows.shape == (BATCH, 32, FEATURES)
        assert cold.sum() == max(0, min(BATCH, 31 * 500 - batch * BATCH))
    assert history.device_count == 500


def test_a_device_that_was_silent_for_longer_than_the_lookback_starts_cold() -> None:
    history = new_history()
    feed(history, 0, ["a"] * BATCH)
    for batch in range(1, LOOKBACK // BATCH + 1):
        feed(history, batch, ["b"] * BATCH)
    first = feed(history, LOOKBACK // BATCH + 1, ["a"] * BATCH)
    _, cold = history.windows(first, first + BATCH, 4)
    assert np.flatnonzero(cold).tolist() == [0, 1, 2]
