"""What ended a transaction, and what follows: its partition is taken anew, or the worker ends.

Guarantees:
  what is known to pass, and being locked out, are waited for without end: an outage has no known end
  what a broker refuses ends the worker at once
  anything else that ended aiokafka's sender ends it when it is met UNEXPECTED_MAX times by one partition with
  no commit of that partition in between: a new client helps against a line that was cut in a bad moment, and
  against a fault in a program it never does
Everything is counted for each partition by itself: commits of others neither hide its failures nor hurry it.
"""

import logging
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import (
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)
from faust.types import TP

from .errors import is_passing

__all__ = ["RETAKE_SECONDS_MAX", "RETAKE_SECONDS_MIN", "UNEXPECTED_MAX", "TransactionFailures"]

log = logging.getLogger(__name__)

RETAKE_SECONDS_MIN: Final = 0.1
RETAKE_SECONDS_MAX: Final = 5.0
UNEXPECTED_MAX: Final = 10
"""The waits between them are 26 s together: a broker that halts is gone by then, and waited for."""

# A new owner or a transaction that took too long: the partition is taken anew, and all is well.
_LOCKED_OUT: Final = (
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)


@dataclass(slots=True)
class _Row:
    """Failures of one partition since its last commit."""

    failures: int = 0
    unexpected: int = 0


class TransactionFailures:
    """Counts failures of each partition until it commits again."""

    def __init__(self) -> None:
        self._rows: dict[TP, _Row] = {}
        self._failing: set[TP] = set()
        self._astonishing: set[TP] = set()

    def fatal(self, tp: TP, error: BaseException) -> BaseException | None:
        """Note one more failure of `tp`: what the worker has to end with, or None if a new client may go on.

        What befalls a worker befalls all of its partitions: the log hears of the first, and of the first that
        nobody expected, until all that failed have committed or are others'.
        """
        about = _met(error)
        row = self._rows.setdefault(tp, _Row())
        row.failures += 1
        known = isinstance(about, _LOCKED_OUT) or is_passing(about)
        if not known:
            row.unexpected += 1
            if about is error or "Authorization" in type(about).__name__:
                return about
            if row.unexpected >= UNEXPECTED_MAX:
                about.add_note(
                    f"met {row.unexpected} times by {tp.topic}/{tp.partition} with no commit between"
                )
                return about
        if not self._failing or not (known or self._astonishing):
            log.warning(
                "a transaction of %s/%d did not come about (%s); its events are read again from the commit",
                tp.topic,
                tp.partition,
                type(about).__name__ if known else repr(about),
            )
        self._failing.add(tp)
        if not known:
            self._astonishing.add(tp)
        return None

    def committed(self, tp: TP) -> None:
        """A transaction of `tp` is through: its row ends."""
        self._rows.pop(tp, None)
        self._failing.discard(tp)
        self._astonishing.discard(tp)

    def keep(self, partitions: Set[TP]) -> None:
        """Others are somebody else's from now on, who tells of them; should they come back, they count on."""
        self._failing &= partitions
        self._astonishing &= partitions

    def wait_seconds(self, partitions: Iterable[TP]) -> float:
        """How long to wait before `partitions` are taken anew: as the one that fails most often needs it."""
        failures = max((self._rows[tp].failures for tp in partitions if tp in self._rows), default=0)
        # Beyond 10 the wait is RETAKE_SECONDS_MAX anyway.
        wait_seconds: float = RETAKE_SECONDS_MIN * 2 ** min(failures, 10)
        return min(wait_seconds, RETAKE_SECONDS_MAX) if failures else 0.0


def _met(error: BaseException) -> BaseException:
    """What an error is about: aiokafka's sender ends with a bare KafkaError of what it does not expect, which
    may be such an error of the look-up of a coordinator."""
    while type(error) is KafkaError and error.__cause__ is not None:
        error = error.__cause__
    return error
