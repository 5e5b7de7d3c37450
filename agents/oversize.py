"""Records that Kafka refuses for their size: never a reason to drop one, and to stop only when nothing fits.

`max.message.bytes` bounds a whole batch as it is sent. So, one after the other:
  1. a batch of many is halved until each part fits or holds one record
  2. one record is compressed: producers may compress, and what fits `events` so may not fit otherwise
  3. of a dead letter that is still too large the value is cut, by half until it fits, and the headers
     `truncated` (its whole size in bytes) and `sha256` (of the whole value, hexadecimal) are added
  4. what does not fit even so stops the worker, with a sentence that names what to set
"""

import hashlib
import logging
from collections.abc import Iterator
from typing import Final

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from ..streams.scoring.codec import decode
from ..streams.scoring.pipeline import Columns
from .errors import FarshoreError

__all__ = ["TOO_LARGE", "CutNotice", "OversizeError", "Runs", "cuts", "halves", "oversize_error"]

log = logging.getLogger(__name__)

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)

Runs = list[tuple[Columns, int, int]]
"""Records to send: slices [start, stop) of columns."""


class OversizeError(FarshoreError):
    """A record does not fit its topic, whatever is done to it."""


class CutNotice:
    """Tells once a topic that records are cut; each of them says so in its headers."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, topic: str) -> None:
        """A dead letter was cut to fit `topic`."""
        if topic not in self._told:
            self._told.add(topic)
            log.warning(
                "an event does not fit topic %r, so its dead letter is cut (headers `truncated`, `sha256`): "
                "raise max.message.bytes there to keep such events whole; this is not said again",
                topic,
            )


def halves(runs: Runs) -> tuple[Runs, Runs] | None:
    """Both halves of some records in their order; None of a single one."""
    left = sum(stop - start for _, start, stop in runs) // 2
    if left == 0:
        return None
    first: Runs = []
    second: Runs = []
    for columns, start, stop in runs:
        middle = min(stop, start + left)
        left -= middle - start
        if start < middle:
            first.append((columns, start, middle))
        if middle < stop:
            second.append((columns, middle, stop))
    return first, second


def cuts(columns: Columns, index: int) -> Iterator[Columns]:
    """A dead letter with less and less of its value, none of it at last; nothing for any other record."""
    if not columns.headers:
        return
    value = columns.values[index]
    if not value:
        return
    headers = [
        *columns.headers[index],
        ("truncated", str(len(value)).encode()),
        ("sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    size = len(value)
    while size > 0:
        size //= 2
        yield Columns([columns.keys[index]], [value[:size]], [headers])


def oversize_error(topic: str, columns: Columns, index: int) -> OversizeError:
    """The sentence for a record that does not fit `topic`."""
    return OversizeError(
        f"what became of {_source(columns, index)} does not fit topic {topic!r}, even compressed: "
        f"raise max.message.bytes of {topic!r}; until then this partition cannot go on"
    )


def _source(columns: Columns, index: int) -> str:
    try:
        if columns.headers:
            source = {name: value.decode() for name, value in columns.headers[index]}
        else:
            source = decode(columns.values[index] or b"")["source"]  # type: ignore[index]  # guarded
        return f"{source['topic']}/{source['partition']} offset {source['offset']}"
    except (KeyError, TypeError, ValueError):
        return f"the record with key {columns.keys[index]!r:.80}"
