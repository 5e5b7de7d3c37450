"""The decision whether a worker lives: dead only after a whole silence that nothing excuses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.liveness import GAP_SECONDS_MAX, Liveness, Sighting, Tail, Verdict, what_waits

LIMIT_SECONDS = 30.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def verdicts(steps: list[tuple[float, Sighting]]) -> list[Verdict]:
    """What is said at each sighting; each comes some seconds after the one before it."""
    clock = Clock()
    liveness = Liveness(LIMIT_SECONDS, clock=clock)
    said = []
    for seconds, sighting in steps:
        clock.now += seconds
        said.append(liveness.see(sighting))
    return said


SILENT = Sighting(7, "3 records in hand")

sightings = st.builds(
    Sighting,
    progress=st.just(7),
    waiting=st.sampled_from(["3 records in hand", "5 records unread", None]),
    pause=st.sampled_from([None, None, None, "the uplink is offline"]),
)
steps = st.lists(st.tuples(st.integers(0, 10), sightings, st.booleans()), max_size=60)


@given(steps)
def test_dead_is_what_was_silent_without_excuse_for_the_whole_time_and_nothing_else(
    drawn: list[tuple[int, Sighting, bool]],
) -> None:
    progress = 0
    story: list[tuple[float, Sighting]] = []
    for seconds, sighting, moves in drawn:
        # Progress is made in a tenth of the cases or so: else no silence would ever be long enough.
        progress += moves and seconds == 10
        story.append((seconds, Sighting(progress, sighting.waiting, sighting.pause)))
    silence: float | None = None
    before = 0
    for (seconds, sighting), verdict in zip(story, verdicts(story), strict=True):
        if sighting.waiting is None or sighting.pause is not None or sighting.progress != before:
            silence = None
        else:
            silence = 0.0 if silence is None else silence + min(seconds, GAP_SECONDS_MAX)
        before = sighting.progress
        assert verdict.alive is ((silence or 0.0) < LIMIT_SECONDS)
        assert verdict.silent_seconds == (silence or 0.0)


def test_a_worker_that_holds_records_and_does_nothing_is_dead_when_the_time_is_up() -> None:
    said = verdicts([(1.0, Sighting(7, None))] + [(1.0, SILENT)] * 32)
    assert [verdict.alive for verdict in said] == [True] * 31 + [False] * 2
    assert said[-1].why == "3 records in hand, and nothing was read, settled, tried or committed for 31 s"


def test_any_progress_begins_the_time_anew() -> None:
    story = [(1.0, Sighting(number // 25, "much")) for number in range(200)]
    assert all(verdict.alive for verdict in verdicts(story))


def test_an_offline_bridge_and_an_idle_worker_live_for_as_long_as_it_takes() -> None:
    offline = Sighting(7, "3 records in hand", "the uplink is offline")
    assert all(verdict.alive for verdict in verdicts([(1.0, offline)] * 500))
    idle = verdicts([(1.0, Sighting(7, None))] * 500)
    assert {(verdict.alive, verdict.why) for verdict in idle[1:]} == {(True, "nothing waits")}


def test_a_machine_that_slept_is_not_taken_for_a_worker_that_stood_still() -> None:
    said = verdicts([(1.0, SILENT), (1.0, SILENT), (86_400.0, SILENT)])
    assert all(verdict.alive for verdict in said)


def test_what_is_in_hand_waits_whatever_the_log_says() -> None:
    assert what_waits(12, {}, []) == "12 records in hand"


def test_only_what_lies_ahead_of_where_this_worker_reads_waits_for_it() -> None:
    tails = [Tail("mine", 5, 100), Tail("another's", 70, 900)]
    assert what_waits(0, {"mine": 95}, tails) == "5 records unread"
    assert what_waits(0, {"mine": None}, tails) == "5 records unread"
    # Read to the end, but the commit was refused: reading again would not help.
    assert what_waits(0, {"mine": 100}, tails) is None
    assert what_waits(0, {}, tails) is None


def test_a_trailing_marker_is_nothing_that_waits() -> None:
    """A lag of records is 0 where nothing can be read before the end."""
    assert what_waits(0, {"mine": 99}, [Tail("mine", 0, 100)]) is None


def test_to_a_worker_without_a_place_in_its_group_everything_unread_waits() -> None:
    tails = [Tail("one", 5, 100), Tail("two", 70, 900)]
    assert what_waits(0, None, tails) == "75 records unread and no place in the group"
    assert what_waits(0, None, []) is None
