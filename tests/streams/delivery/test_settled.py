"""What is known to be settled: by place, checked by id, within bounds."""

from __future__ import annotations

import random

from farshore.streams.delivery.settled import RecentIds, SettledPlaces


def key(number: int) -> bytes:
    return b"%032x" % number


def test_what_was_noted_is_known_at_its_place_and_nowhere_else() -> None:
    places = SettledPlaces()
    chosen = random.Random(3).sample(range(200_000), 5_000)
    for offset in chosen:
        places.add(offset, key(offset))
    assert all(places.holds(offset, key(offset)) for offset in chosen)
    others = set(range(200_000)) - set(chosen)
    assert not any(places.holds(offset, key(offset)) for offset in others)


def test_ten_million_settled_places_take_two_bytes_each() -> None:
    places = SettledPlaces()
    for offset in range(0, 10_000_000, 1_000):
        places.add(offset, key(offset))
    assert places.bytes_held <= 10_000_000 * 2.01


def test_what_is_below_the_commit_is_forgotten_and_what_is_above_is_not() -> None:
    places = SettledPlaces()
    for offset in (0, 20_000, 40_000, 60_000):
        places.add(offset, key(offset))
    held = places.bytes_held
    places.forget_below(40_000)
    assert places.bytes_held < held
    assert places.holds(40_000, key(40_000))
    assert places.holds(60_000, key(60_000))


def test_a_topic_made_anew_is_noticed_by_its_ids_and_nothing_of_it_is_skipped() -> None:
    """Its offsets begin again, and the old topic's outcomes are still in `deliveries`."""
    places = SettledPlaces()
    for offset in range(1_000):
        places.add(offset, key(offset))
    # A chance of 1 in 65,535 for the first place alone; these ids do not meet it.
    assert not any(places.holds(offset, key(5_000 + offset)) for offset in range(1_000))
    assert not places.holds(3, key(3))


def test_the_newest_ids_are_known_at_any_place_and_the_oldest_go() -> None:
    recent = RecentIds(ids_max=100)
    for number in range(250):
        recent.add(key(number))
    assert len(recent) == 100
    assert key(249) in recent
    assert key(150) in recent
    assert key(149) not in recent
