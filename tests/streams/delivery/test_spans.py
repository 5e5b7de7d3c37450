"""Stretches of a log: few, in order, and nothing that was added falls out of them."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from farshore.streams.delivery.spans import SPANS_MAX, Spans


@pytest.mark.parametrize("seed", range(20))
def test_what_was_added_lies_in_one_of_a_bounded_number_of_stretches_in_order(seed: int) -> None:
    choose, spans, added, at = random.Random(seed), Spans(), set[int](), 0
    for _ in range(300):
        at += choose.choice((0, 1, 5, 1_000))
        end = at + choose.randint(1, 9)
        spans.add(at, end)
        added |= set(range(at, end))
        found = list(spans)
        assert len(found) <= SPANS_MAX
        assert all(one[1] < two[0] for one, two in pairwise(found))
        at = choose.choice((at, end))
    assert added <= {offset for start, end in spans for offset in range(start, end)}
    spans.forget_below(at // 2)
    assert {offset for start, end in spans for offset in range(start, end)} >= {
        n for n in added if n >= at // 2
    }
    assert min(start for start, _ in spans) >= at // 2


def test_those_that_lie_nearest_are_joined_first() -> None:
    spans = Spans()
    for number in range(SPANS_MAX + 1):
        spans.add(100 * number - (number == 7), 100 * number + 1)
    assert len(list(spans)) == SPANS_MAX
    assert (600, 701) in list(spans)
