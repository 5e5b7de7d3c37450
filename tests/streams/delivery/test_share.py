"""Live and backlog on one link: who has the turn, by bytes alone."""

from __future__ import annotations

import random

import pytest

from farshore.streams.delivery.share import Share, Traffic

LIVE, BACKLOG = Traffic.LIVE, Traffic.BACKLOG


def play(share: Share, batches: int, sizes: random.Random, asking: tuple[Traffic, ...]) -> dict[Traffic, int]:
    """Batches one after the other, each of a kind whose turn it is; bytes by kind."""
    sent = dict.fromkeys(Traffic, 0)
    for _ in range(batches):
        kind = next(kind for kind in sizes.sample(asking, len(asking)) if share.may(kind))
        size = sizes.randint(1, 4_000)
        share.charge(kind, size)
        sent[kind] += size
    return sent


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_while_both_ask_the_live_ones_get_their_fraction_of_the_bytes(fraction: float) -> None:
    share = Share(fraction)
    share.begin(LIVE)
    share.begin(BACKLOG)
    sent = play(share, 4_000, random.Random(11), (LIVE, BACKLOG))
    total = sum(sent.values())
    # One batch of either kind is as near as it gets.
    assert abs(sent[LIVE] - fraction * total) <= 8_000


def test_who_asks_alone_has_the_whole_link() -> None:
    share = Share(0.2)
    for kind in Traffic:
        share.begin(kind)
        assert play(share, 100, random.Random(3), (kind,))[kind] > 0
        assert share.may(kind)
        share.end(kind)


def test_what_was_not_asked_for_is_not_made_up_for_later() -> None:
    share = Share(0.25)
    share.begin(BACKLOG)
    play(share, 5_000, random.Random(4), (BACKLOG,))
    share.begin(LIVE)
    assert share.may(LIVE)
    assert not share.may(BACKLOG)
    sent = play(share, 2_000, random.Random(5), (LIVE, BACKLOG))
    assert abs(sent[LIVE] - 0.25 * sum(sent.values())) <= 8_000


def test_a_lane_that_stops_for_a_moment_between_two_batches_loses_nothing_of_its_share() -> None:
    share, sizes = Share(0.3), random.Random(6)
    share.begin(LIVE)
    sent = dict.fromkeys(Traffic, 0)
    for _ in range(3_000):
        share.begin(BACKLOG)
        for kind, size in play(share, 1, sizes, (LIVE, BACKLOG)).items():
            sent[kind] += size
        share.end(BACKLOG)
    assert abs(sent[LIVE] - 0.3 * sum(sent.values())) <= 8_000


def test_without_a_fraction_nobody_waits() -> None:
    share = Share(None)
    share.begin(LIVE)
    share.begin(BACKLOG)
    share.charge(LIVE, 1_000_000)
    assert share.may(LIVE)
    assert share.may(BACKLOG)
