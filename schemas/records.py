"""The records farshore writes, as typed dictionaries: what `*.schema.json` beside this file describes.

Typed dictionaries rather than classes, because the codec writes them as they are: one object a record.
"""

from enum import StrEnum
from typing import Final, Literal, NotRequired, TypedDict

__all__ = [
    "TIME_MS_LIMIT",
    "AnomalyRecord",
    "DeliveryRecord",
    "DepartedRecord",
    "Departure",
    "DroppedRecord",
    "GapRecord",
    "HoldRecord",
    "Outcome",
    "ReadingRecord",
    "ReceiptRecord",
    "RetiredRecord",
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
    resent: NotRequired[str]


class Departure(TypedDict):
    """What leaves the site for one anomaly without a compliance policy. Nothing else does."""

    id: str
    site: str
    time: int
    score: float
    severity: str
    model: str
    resent: NotRequired[str]


class Outcome(StrEnum):
    """How an anomaly's delivery was settled. An anomaly without an outcome is waiting."""

    ACKNOWLEDGED = "acknowledged"
    HELD_BACK = "held-back"
    SET_ASIDE = "set-aside"
    DROPPED_BY_QUOTA = "dropped-by-quota"


class DeliveryRecord(TypedDict):
    """A value in `deliveries`, keyed by the anomaly id: `batch` is the id of the batch that carried it.

    `offset` is where the anomaly stood, in the same partition of `anomalies`; null where nobody knew.
    `digest` is BLAKE2b-128 of the body that left, `resent` the request that it answers; else null.
    """

    id: str
    outcome: str
    batch: str | None
    time: int
    detail: str | None
    offset: int | None
    digest: str | None
    resent: str | None


class DepartedRecord(TypedDict):
    """A value in `audit`, keyed by the site: one batch that the service has acknowledged.

    `fields` is what left of the anomalies, `policy` the digest of the policy that let it, `bytes` the size of
    the bodies together, `partition` where the anomalies stand in the store.
    """

    kind: str
    site: str
    batch: str
    time: int
    partition: int
    count: int
    resent: int
    bytes: int
    fields: list[str]
    policy: str


class DroppedRecord(TypedDict):
    """A value in `audit`, keyed by the site: anomalies that a quota took before they were delivered.

    It is delivered itself, without what the policy keeps. `first_time` and `last_time` bound the anomalies'
    `detected_at`; `severities` counts them; `bytes` is what their records took.
    """

    kind: str
    site: str
    id: str
    time: int
    partition: int
    count: int
    severities: dict[str, int]
    bytes: int
    first_time: int
    last_time: int
    quota_bytes: int


class RetiredRecord(TypedDict):
    """A value in `audit`, keyed by the site: anomalies that left the store without having been delivered.

    `outcome` is what became of them, `first_time` and `last_time` bound the times at which that was settled.
    """

    kind: str
    site: str
    id: str
    time: int
    partition: int
    outcome: str
    count: int
    first_time: int
    last_time: int


class HoldRecord(TypedDict):
    """A value in `audit`, keyed by the site: a drill's word to leave the uplink alone, the bridge's answer.

    `kind` is hold (for `seconds` from when it was written; 0 lets go), held or released; `id` is the drill's.
    """

    kind: str
    site: str
    id: str
    time: int
    seconds: float


class ReceiptRecord(TypedDict):
    """A value in `audit`, keyed by the site: the receipt of what was found since `since`, by a drill."""

    kind: str
    site: str
    id: str
    time: int
    since: int
    adds_up: bool
    counts: dict[str, int]


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
