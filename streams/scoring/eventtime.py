"""Event times: a number in the package's unit or an RFC 3339 string, to epoch milliseconds UTC.

Guarantee: what comes out lies in [0, TIME_MS_LIMIT), that is 1970 to 2099; anything else is refused by name.
"""

import math
import re
from datetime import UTC, datetime
from typing import Final

from ...schemas.records import TIME_MS_LIMIT

__all__ = ["UNIT_PER_MS", "BadTimeError", "epoch_ms"]

UNIT_PER_MS: Final = {"s": 0.001, "ms": 1, "us": 1_000, "ns": 1_000_000}

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY_SECONDS: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BadTimeError(ValueError):
    """The time is none, or outside 1970 to 2099; the message says which."""


def epoch_ms(value: object, unit: str) -> int:
    """Epoch milliseconds of a JSON number in `unit` or an RFC 3339 string; raises BadTimeError."""
    if type(value) is int:
        time_ms = _scaled(value, unit)
    elif type(value) is float:
        if not math.isfinite(value):
            raise BadTimeError(f"time is {value}, expected a finite number")
        time_ms = _floored(value, unit)
    elif type(value) is str:
        time_ms = _from_text(value)
    else:
        raise BadTimeError(f"time is {_kind(value)}, expected epoch {unit} or an RFC 3339 string")
    if not 0 <= time_ms < TIME_MS_LIMIT:
        raise BadTimeError(f"time {str(value)[:40]} ({unit}) lies outside 1970 to 2099")
    return time_ms


def _scaled(value: int, unit: str) -> int:
    # Whole arithmetic: a float would round nanoseconds.
    return value * 1000 if unit == "s" else value // int(UNIT_PER_MS[unit])


def _floored(value: float, unit: str) -> int:
    time_ms = value * 1000 if unit == "s" else value / UNIT_PER_MS[unit]
    if not abs(time_ms) < 2 * TIME_MS_LIMIT:
        # Also infinity, which a finite number of seconds can become and of which there is no floor.
        raise BadTimeError(f"time {value} ({unit}) lies outside 1970 to 2099")
    # To the microsecond first: as a float, 1690000000.123 s lies just below its millisecond.
    return math.floor(round(time_ms, 3))


def _from_text(text: str) -> int:
    if len(text) > 64 or _RFC3339.fullmatch(text) is None:
        raise BadTimeError(f"time {text[:40]!r} is no RFC 3339 time with an offset")
    try:
        # Python reads fractions of up to six digits and offsets; longer fractions are cut to microseconds.
        # It knows no leap second, so 23:59:60 is read as one second after 23:59:59, as POSIX time does.
        leap = text[17:19] == "60"
        plain = text[:17] + "59" + text[19:] if leap else text
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", plain.upper()))
    except ValueError as error:
        raise BadTimeError(f"time {text[:40]!r} is no RFC 3339 time: {error}") from None
    # Whole arithmetic again; timestamp() would go through a float.
    since = moment - _EPOCH
    if leap and since.seconds != _DAY_SECONDS - 1:
        raise BadTimeError(f"time {text[:40]!r} is no RFC 3339 time: second 60 ends a UTC day")
    return since.days * 86_400_000 + (since.seconds + leap) * 1000 + since.microseconds // 1000


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", list: "an array", dict: "an object"}.get(type(value), type(value).__name__)
