"""Scored records of a whole batch to JSON: each column is encoded at once, then the columns are joined.

What comes out is byte for byte what the codec writes for the same dictionaries (a test compares them).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from .codec import encode, encode_numbers

__all__ = ["DEVICES_KEPT_MAX", "ScoredEncoder"]

DEVICES_KEPT_MAX: Final[int] = 100_000
"""Encoded names kept; beyond it all are forgotten at once, which bounds memory and costs one encoding."""


class ScoredEncoder:
    """Encodes scored records of one model."""

    def __init__(self, model_label: str) -> None:
        self._model = encode(model_label)
        self._devices: dict[str, bytes] = {}

    def encode(
        self,
        topic: str,
        partition: int,
        *,
        devices: Sequence[str],
        times_ms: Sequence[int],
        scores: npt.NDArray[np.float64],
        alarms: npt.NDArray[np.bool_],
        offsets: Sequence[int],
    ) -> list[bytes]:
        """One value for each row; all columns have the same length, and scores are finite."""
        if not devices:
            return []
        # Percent signs in names would be taken for places to fill in.
        tail = b',"model":%b,"source":{"topic":%b,"partition":%d,"offset":' % (
            self._model,
            encode(topic),
            partition,
        )
        template = b'{"device":%b,"time":%b,"score":%b,"anomaly":%b' + tail.replace(b"%", b"%%") + b"%b}}"
        columns = zip(
            self._encoded_devices(devices),
            _elements(encode(list(times_ms))),
            _elements(encode_numbers(scores)),
            _elements(encode_numbers(alarms)),
            _elements(encode(list(offsets))),
            strict=True,
        )
        return list(map(template.__mod__, columns))

    def _encoded_devices(self, devices: Sequence[str]) -> list[bytes]:
        known = self._devices
        try:
            return [known[device] for device in devices]
        except KeyError:
            fresh = [device for device in dict.fromkeys(devices) if device not in known]
        if len(known) + len(fresh) > DEVICES_KEPT_MAX:
            known.clear()
            fresh = list(dict.fromkeys(devices))
        known.update(zip(fresh, map(_kept, fresh), strict=True))
        return [known[device] for device in devices]


def _kept(device: str) -> bytes:
    """The encoded name in a buffer of its size: orjson's own would hold on to the 4 kB that it began with."""
    return b"%b" % encode(device)


def _elements(array: bytes) -> list[bytes]:
    """The elements of an encoded array of numbers or booleans."""
    return array[1:-1].split(b",")
