"""Why an event became a dead letter: a closed vocabulary, part of the public face.

The reason is the header `reason` of a dead letter; the header `detail` says the same of this one event
in a sentence. Adding a reason is a change that consumers see; renaming one breaks them.
"""

from enum import StrEnum

__all__ = ["DeadLetterReason"]


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
