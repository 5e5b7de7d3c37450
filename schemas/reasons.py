"""Why an event became a dead letter, or was never read: closed vocabularies, part of the public face.

A dead letter has its reason in the header `reason`; the header `detail` says the same of this one event in a
sentence. Adding a reason is a change that consumers see; renaming one breaks them.
"""

from enum import StrEnum

__all__ = ["DeadLetterReason", "GapReason"]


class DeadLetterReason(StrEnum):
    """One word a cause, in the order in which an event is examined."""

    EMPTY = "empty"
    TOO_LARGE = "too-large"
    NOT_UTF8 = "not-utf8"
    NOT_JSON = "not-json"
    NOT_OBJECT = "not-object"
    BAD_DEVICE = "bad-device"
    BAD_TIME = "bad-time"
    MISSING_FEATURE = "missing-feature"
    BAD_FEATURE = "bad-feature"
    OUT_OF_RANGE = "out-of-range"
    MODEL_OUTPUT = "model-output"


class GapReason(StrEnum):
    """Why offsets of a topic were never read: the member `reason` of a gap on `audit`."""

    RETENTION = "retention"
    """Their records were deleted before this group read them."""

    REMADE = "remade"
    """The topic was deleted and made again; what the old one still held unread cannot be known."""

    TRUNCATED = "truncated"
    """The log ends before the commit: the broker lost records that it had given out."""
