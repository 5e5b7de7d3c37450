"""Where a consumer starts: the selector filter of its source.

Understood: `amqp.annotation.x-opt-offset|x-opt-sequence-number|x-opt-enqueued-time`, `>` or `>=`, and a
number; the offset may also be '@latest', after which only events to come are read, and '-1', which is before
the first.
"""

from __future__ import annotations

import re

from .errors import INVALID_FIELD, AttachRefused
from .partitions import OFFSET_STRIDE, Partition
from .values import Described, Value

SELECTOR = "apache.org:selector-filter:string"

_EXPRESSION = re.compile(
    r"\s*amqp\.annotation\.(x-opt-offset|x-opt-sequence-number|x-opt-enqueued-time)"
    r"\s*(>=|>)\s*(?:'(-?\d{1,19}|@latest)'|(-?\d{1,19}))\s*"
)


def start_sequence(filters: Value, partition: Partition) -> int:
    """The first sequence number that passes the source's filters; without a selector, the oldest event's.

    Raises `AttachRefused` for an expression that is not understood.
    """
    expression = _selector(filters)
    if expression is None:
        return partition.begin_sequence
    matched = _EXPRESSION.fullmatch(expression)
    if matched is None:
        raise AttachRefused(INVALID_FIELD, f"the selector is not understood: {expression[:200]}")
    annotation, operator, quoted, bare = matched.groups()
    text = quoted or bare
    if text == "@latest":
        if annotation != "x-opt-offset":
            raise AttachRefused(INVALID_FIELD, "only an offset can be '@latest'")
        return partition.next_sequence
    # Everything is whole numbers, so "more than n" is "n + 1 or more".
    least = int(text) + (operator == ">")
    if annotation == "x-opt-offset":
        return max(0, -(-least // OFFSET_STRIDE))
    if annotation == "x-opt-enqueued-time":
        return partition.first_since(least)
    return max(0, least)


def _selector(filters: Value) -> str | None:
    if filters is None:
        return None
    if not isinstance(filters, dict):
        raise AttachRefused(INVALID_FIELD, "a source's filters are a map")
    selector = filters.get(SELECTOR)
    value = selector.value if isinstance(selector, Described) else selector
    if value is None or isinstance(value, str):
        return value
    raise AttachRefused(INVALID_FIELD, "a selector filter is a string")
