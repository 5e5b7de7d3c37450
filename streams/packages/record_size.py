"""How large an anomaly record of a package can become, known before the first event is scored.

The record names every feature, once in `readings` and once more in `contributions`. With tens of thousands of
long names that may be more than the topic takes: each anomaly would then end its worker, again and again.
"""

from typing import Final

from ...schemas.manifest import Manifest
from ...schemas.records import TIME_MS_LIMIT, AnomalyRecord
from ..scoring.clean import DEVICE_LENGTH_MAX
from ..scoring.codec import encode

__all__ = ["anomaly_bytes_max"]

_NUMBER_BYTES_MAX: Final = len("-2.2250738585072014e-308")
_LONGEST_NUMBER: Final = -2.2250738585072014e-308
_OFFSET_MAX: Final = 2**63 - 1
_PARTITION_MAX: Final = 2**31 - 1
_FRAME_BYTES_MAX: Final = 256
"""Kafka's framing of a batch and of its record, and the record's key."""


def anomaly_bytes_max(manifest: Manifest, *, site: str, topic: str) -> int:
    """Bytes that an anomaly record takes in its topic, at most; `topic` is where its event stands."""
    record = AnomalyRecord(
        id="0" * 32,
        site=site,
        device="\x00" * DEVICE_LENGTH_MAX,  # no character takes more in JSON
        time=TIME_MS_LIMIT,
        score=_LONGEST_NUMBER,
        threshold=_LONGEST_NUMBER,
        severity=max((level.level.value for level in manifest.severity), key=len),
        model=manifest.label,
        model_digest="sha256:" + "0" * 64,
        contributions={},
        readings={},
        source={"topic": topic, "partition": _PARTITION_MAX, "offset": _OFFSET_MAX},
        detected_at=TIME_MS_LIMIT,
    )
    # "name":number, for each feature
    one_map = sum(len(encode(name)) + _NUMBER_BYTES_MAX + 2 for name in manifest.features)
    maps = one_map if manifest.contributions_output is None else 2 * one_map
    return _FRAME_BYTES_MAX + len(encode(record)) + maps
