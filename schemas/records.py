"""The records farshore writes, as typed dictionaries: what `*.schema.json` beside this file describes.

Typed dictionaries rather than classes, because the codec writes them as they are: one object a record.
"""

from enum import StrEnum
from typing import Final, Literal, TypedDict

__all__ = [
    "TIME_MS_LIMIT",
    "AnomalyRecord",
    "DeliveryRecord",
    "Departure",
    "GapRecord",
    "Outcome",
    "ReadingRecord",
    "ScoredRecord",
    "Source",
]

TIME_MS_LIMIT: Final = 4_102_444_800_000
"""2100-01-01T00:00:00Z in epoch milliseconds: event times lie in [0, TIME_MS_LIMIT)."""


class Source(TypedDict):
    """Where an event stands in the input: unique for one life of a topic."""

    topic: str
    partition: int
    offset: int


class ScoredRecord(TypedDict):
    """A value in `scored`: `time` is epoch milliseconds UTC, `model` is name@version.

    `score` is what was compared with the threshold; `anomaly` is false also above it while the device rests.
    """

    device: str
    time: int
    score: float
    anomaly: bool
    model: str
    source: Source


class AnomalyRecord(TypedDict):
    """A value in `anomalies`: all that is known about one anomaly. It stays on the site."""

    id: str
    site: str
    device: str
    time: int
    score: float
    threshold: float
    severity: str
    model: str
    model_digest: str
    contributions: dict[str, float] | None
    readings: dict[str, float]
    source: Source
    detected_at: int


class Departure(TypedDict):
    """What leaves the site for one anomaly while no compliance policy exists. Nothing else does."""

    id: str
    site: str
    time: int
    score: float
    severity: str
    model: str


class Outcome(StrEnum):
    """How an anomaly's delivery was settled. An anomaly without an outcome is waiting."""

    ACKNOWLEDGED = "acknowledged"
    HELD_BACK = "held-back"
    SET_ASIDE = "set-aside"
    DROPPED_BY_QUOTA = "dropped-by-quota"


class DeliveryRecord(TypedDict):
    """A value in `deliveries`, keyed by the anomaly id: `batch` is the id of the batch that carried it.

    `offset` is where the anomaly stood, in the same partition of `anomalies`; null where nobody knew.
    """

    id: str
    outcome: str
    batch: str | None
    time: int
    detail: str | None
    offset: int | None


GapRecord = TypedDict(
    "GapRecord",
    {
        "kind": Literal["gap"],
        "group": str,
        "topic": str,
        "topic_id": str | None,
        "partition": int,
        "from": int | None,
        "to": int | None,
        "reason": str,
        "time": int,
    },
)
"""A value in `audit`: offsets [from, to) of one life of a topic, by its id, that a group will never read.

What cannot be known is null; of a topic made anew, that is `to`.
"""


class ReadingRecord(TypedDict):
    """A value in `audit`: a group begins to read a partition of one life of a topic."""

    kind: Literal["reading"]
    group: str
    topic: str
    topic_id: str
    partition: int
    time: int
