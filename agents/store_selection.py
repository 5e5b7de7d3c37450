"""Which anomalies of the store a command is about: by time, device, severity, state, or id."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import ConsumerRecord

from ..streams.scoring.codec import NotJsonError, decode

__all__ = ["StoreSelection", "decoded", "parse_time"]


@dataclass(frozen=True, slots=True)
class StoreSelection:
    """All of what is given must hold; an empty set means any. Times are epoch milliseconds, `since` included.

    The time of an anomaly is when it was found (`detected_at`): an outage is a stretch of that time, whatever
    times the events of a replay carry. Of what a quota took it is the time at which it was dropped.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    devices: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """Whether no record can fail; states are asked after the join."""
        return (self.since_ms, self.until_ms) == (None, None) and not (
            self.devices or self.severities or self.ids
        )

    def takes(self, record: ConsumerRecord) -> bool:
        """Whether an anomaly record is meant; a damaged one is if everything is."""
        if self.ids and record.key.decode(errors="replace") not in self.ids:
            return False
        if self.is_everything:
            return True
        anomaly = decoded(record.value)
        if anomaly is None:
            return bool(self.ids)
        return (
            self.in_time(anomaly.get("detected_at"))
            and (not self.devices or anomaly.get("device") in self.devices)
            and (not self.severities or anomaly.get("severity") in self.severities)
        )

    def takes_dropped(self, record: ConsumerRecord) -> bool:
        """The same of a delivery record by which a quota took an anomaly; its device is not known."""
        if self.ids and record.key.decode(errors="replace") not in self.ids:
            return False
        if self.devices:
            return False
        delivery = decoded(record.value)
        if delivery is None or not self.in_time(delivery.get("time")):
            return False
        return not self.severities or any(
            f"severity {level}" in str(delivery.get("detail")) for level in self.severities
        )

    def in_time(self, time_ms: object) -> bool:
        """Whether a time lies in the stretch that is meant."""
        if self.since_ms is None and self.until_ms is None:
            return True
        if not isinstance(time_ms, int):
            return False
        return (self.since_ms is None or time_ms >= self.since_ms) and (
            self.until_ms is None or time_ms < self.until_ms
        )


def parse_time(text: str) -> int:
    """Epoch milliseconds from a number of them or ISO 8601 (UTC where no offset is given); ValueError."""
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; give 2026-03-01T06:00, with an offset or in UTC, or epoch milliseconds"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def decoded(value: bytes | None) -> dict[str, Any] | None:  # JSON, so any
    """A record's value as an object; None when it is none."""
    if value is None:
        return None
    try:
        found = decode(value)
    except NotJsonError:
        return None
    return found if isinstance(found, dict) else None
