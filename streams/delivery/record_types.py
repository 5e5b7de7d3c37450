"""The types of an anomaly record's members, checked one by one where a record leaves or is judged.

The same as `anomaly.schema.json` says, at a price that a bridge can pay for each record (a test holds the two
together). Names alone are no check: an object under an allowed name would take anything off the site.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from ...schemas.records import TIME_MS_LIMIT
from ...schemas.severity import Severity

__all__ = ["CHECKS", "DamagedAnomalyError", "check_resent"]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_MODEL: Final = re.compile(r"[^@]+@[^@]+")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SEVERITIES: Final = frozenset(level.value for level in Severity)
_DEVICE_CHARACTERS_MAX: Final = 256
_SOURCE: Final = frozenset({"topic", "partition", "offset"})


class DamagedAnomalyError(ValueError):
    """The stored value is no anomaly record; it is set aside, and the stream goes on."""


def _fail(name: str, expected: str) -> DamagedAnomalyError:
    # What stands there instead is not quoted: it may be what must not leave, and details travel.
    return DamagedAnomalyError(f"the stored anomaly's {name} is not {expected}")


def _text(name: str, pattern: re.Pattern[str], expected: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _fail(name, expected)

    return check


def _check_site(value: object) -> None:
    if not isinstance(value, str) or not value:
        raise _fail("site", "a name")


def _check_device(value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _DEVICE_CHARACTERS_MAX:
        raise _fail("device", f"a name of at most {_DEVICE_CHARACTERS_MAX} characters")


def _time(name: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if type(value) is not int or not 0 <= value < TIME_MS_LIMIT:
            raise _fail(name, "in epoch milliseconds from 1970 to 2099")

    return check


def _is_number(value: object) -> bool:
    return type(value) is float or type(value) is int  # a bool is an int, but no number


def _number(name: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if not _is_number(value) or not math.isfinite(value):  # type: ignore[arg-type]  # a number by then
            raise _fail(name, "a number")

    return check


def _check_severity(value: object) -> None:
    if not isinstance(value, str) or value not in _SEVERITIES:
        raise _fail("severity", "low, medium, high or critical")


def _numbers(name: str) -> Callable[[object], None]:
    def check(value: object) -> None:
        if not isinstance(value, dict) or not all(map(_is_number, value.values())):
            raise _fail(name, "an object of numbers")

    return check


def _check_contributions(value: object) -> None:
    if value is not None:
        _numbers("contributions")(value)


def _check_source(value: object) -> None:
    if (
        not isinstance(value, dict)
        or value.keys() != _SOURCE
        or not isinstance(value["topic"], str)
        or not value["topic"]
        or any(type(value[part]) is not int or value[part] < 0 for part in ("partition", "offset"))
    ):
        raise _fail("source", "topic, partition and offset")


CHECKS: Final[Mapping[str, Callable[[object], None]]] = {
    "id": _text("id", _ID, "32 hexadecimal digits"),
    "site": _check_site,
    "device": _check_device,
    "time": _time("time"),
    "score": _number("score"),
    "threshold": _number("threshold"),
    "severity": _check_severity,
    "model": _text("model", _MODEL, "name@version"),
    "model_digest": _text("model_digest", _DIGEST, "sha256: and 64 hexadecimal digits"),
    "contributions": _check_contributions,
    "readings": _numbers("readings"),
    "source": _check_source,
    "detected_at": _time("detected_at"),
}
"""By member: raises DamagedAnomalyError unless the value has the member's type and range."""

_check_resent_id = _text("resent", _ID, "32 hexadecimal digits")


def check_resent(value: object) -> str:
    """The id of the request by which an anomaly is sent again."""
    _check_resent_id(value)
    return str(value)
