"""What leaves the site for an anomaly. An allow-list: a field that is not named here never leaves.

Until a compliance policy exists these are id, site, time, score, severity and model.
"""

from typing import Final, cast

from ...schemas.records import Departure
from ..scoring.codec import NotJsonError, decode, encode

__all__ = ["DEPARTING_FIELDS", "DamagedAnomalyError", "departure_of"]

DEPARTING_FIELDS: Final = tuple(Departure.__annotations__)


class DamagedAnomalyError(ValueError):
    """The stored value is no anomaly record; it is set aside, and the stream goes on."""


def departure_of(value: bytes) -> bytes:
    """The body of the event that leaves for the anomaly record `value`; raises DamagedAnomalyError."""
    try:
        anomaly = decode(value)
    except NotJsonError as error:
        raise DamagedAnomalyError(f"the stored value is no JSON: {error}") from None
    if not isinstance(anomaly, dict):
        raise DamagedAnomalyError("the stored value is no object")
    missing = [name for name in DEPARTING_FIELDS if name not in anomaly]
    if missing:
        raise DamagedAnomalyError(f"the stored anomaly lacks {', '.join(missing)}")
    return encode(cast(Departure, {name: anomaly[name] for name in DEPARTING_FIELDS}))
