"""Which offsets may be committed, whatever the order in which batches are finished."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from farshore.streams.transport.ledger import OffsetLedger, Range

PARTITIONS = ("events-0", "events-1", "audit-0")


@dataclass
class Kept:
    """What a plain reader of the rules would note of one partition."""

    batches: list[Range] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    reached: int | None = None
    finished: set[int] = field(default_factory=set)
    committed: int | None = None

    @property
    def safe(self) -> int | None:
        """Where reading stood, or the end of the last batch up to which everything is finished."""
        safe = self.reached
        for batch, end in zip(self.batches, self.ends, strict=True):
            if id(batch) not in self.finished:
                break
            safe = max(safe or 0, end)
        return safe

    @property
    def waiting(self) -> list[Range]:
        """Batches not finished."""
        return [batch for batch in self.batches if id(batch) not in self.finished]


class LedgerMachine(RuleBasedStateMachine):
    """Hands out, finishes, commits and takes away in any order, beside a plain account of the same."""

    handed = Bundle("handed")

    @initialize()
    def start(self) -> None:
        self.ledger: OffsetLedger[str] = OffsetLedger()
        self.kept: dict[str, Kept] = {}
        self.next_offset = 0
        self.taken_away: set[int] = set()

    @rule(
        target=handed,
        partition=st.sampled_from(PARTITIONS),
        gap=st.integers(0, 1_000),
        rows=st.integers(1, 50),
        size_bytes=st.integers(0, 10_000),
    )
    def hand_out(self, partition: str, gap: int, rows: int, size_bytes: int) -> tuple[str, Range]:
        self.next_offset += gap + rows
        batch = self.ledger.hand_out(partition, end=self.next_offset, rows=rows, size_bytes=size_bytes)
        kept = self.kept.setdefault(partition, Kept())
        kept.batches.append(batch)
        kept.ends.append(self.next_offset)
        return partition, batch

    @rule(partition=st.sampled_from(PARTITIONS), skipped=st.integers(0, 1_000))
    def read_on_without_a_record(self, partition: str, skipped: int) -> None:
        self.next_offset += skipped
        self.ledger.reach(partition, self.next_offset)
        kept = self.kept.setdefault(partition, Kept())
        if kept.waiting:
            kept.ends[-1] = self.next_offset
        else:
            kept.reached = self.next_offset

    @rule(batch=handed)
    def finish(self, batch: tuple[str, Range]) -> None:
        # The same batch may come up again: an agent's acknowledgement may be repeated or late.
        partition, handed = batch
        self.ledger.finish(partition, handed)
        if id(handed) not in self.taken_away:
            self.kept[partition].finished.add(id(handed))

    @rule(target=handed, batch=consumes(handed), other=st.sampled_from(PARTITIONS))
    def finish_under_a_wrong_partition(self, batch: tuple[str, Range], other: str) -> object:
        if other != batch[0]:
            self.ledger.finish(other, batch[1])
        return multiple(batch)

    @rule()
    def commit(self) -> None:
        offsets = self.ledger.committable()
        self.ledger.note_committed(offsets)
        for partition, offset in offsets.items():
            self.kept[partition].committed = offset

    @rule(partition=st.sampled_from(PARTITIONS))
    def lose_the_commit(self, partition: str) -> None:
        self.ledger.note_commit_gone(partition)
        if partition in self.kept:
            self.kept[partition].committed = None

    @rule(partition=st.sampled_from(PARTITIONS))
    def take_away(self, partition: str) -> None:
        self.ledger.forget([partition])
        kept = self.kept.pop(partition, Kept())
        self.taken_away.update(id(batch) for batch in kept.batches)

    @invariant()
    def a_commit_covers_finished_batches_only_and_all_of_them(self) -> None:
        expected = {
            partition: kept.safe
            for partition, kept in self.kept.items()
            if kept.safe is not None and kept.safe != kept.committed
        }
        assert self.ledger.committable() == expected

    @invariant()
    def the_counters_are_what_is_handed_out_and_not_finished(self) -> None:
        waiting = [batch for kept in self.kept.values() for batch in kept.waiting]
        assert self.ledger.batches_outstanding == len(waiting)
        assert self.ledger.rows_outstanding == sum(batch.rows for batch in waiting)
        assert self.ledger.bytes_outstanding == sum(batch.size_bytes for batch in waiting)
        assert self.ledger.in_hand is bool(waiting)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@st.composite
def batches_and_an_order(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Ends of batches with gaps between them, and an order of finishing them."""
    steps = draw(st.lists(st.integers(1, 500), min_size=1, max_size=20))
    ends = [sum(steps[: index + 1]) for index in range(len(steps))]
    return ends, draw(st.permutations(range(len(ends))))


@given(batches_and_an_order())
def test_gaps_never_stop_a_commit_and_nothing_unfinished_is_passed(
    drawn: tuple[list[int], list[int]],
) -> None:
    ends, order = drawn
    ledger: OffsetLedger[str] = OffsetLedger()
    handed = [ledger.hand_out("p", end=end, rows=1, size_bytes=10) for end in ends]
    for position, index in enumerate(order):
        ledger.finish("p", handed[index])
        unfinished = [ends[other] for other in order[position + 1 :]]
        commit = ledger.committable().get("p", 0)
        assert all(commit < end for end in unfinished)
    assert ledger.committable() == {"p": ends[-1]}
    assert (ledger.rows_outstanding, ledger.bytes_outstanding, ledger.batches_outstanding) == (0, 0, 0)


def test_what_the_broker_has_taken_is_no_news() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    ledger.finish("p", ledger.hand_out("p", end=10, rows=10, size_bytes=1))
    assert ledger.committable() == {"p": 10}
    ledger.note_committed({"p": 10, "of another member": 5})
    assert ledger.committable() == {}
    ledger.finish("p", ledger.hand_out("p", end=12, rows=1, size_bytes=1))
    assert ledger.committable() == {"p": 12}


def test_a_batch_of_a_partition_that_was_taken_away_and_given_back_is_not_counted_for_the_new_life() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    stale = ledger.hand_out("p", end=10, rows=10, size_bytes=1)
    ledger.forget(["p"])
    again = ledger.hand_out("p", end=10, rows=10, size_bytes=1)
    ledger.finish("p", stale)
    assert ledger.committable() == {}
    assert ledger.rows_outstanding == 10
    ledger.finish("p", again)
    assert ledger.committable() == {"p": 10}
    assert not ledger.in_hand


def test_markers_behind_the_last_record_are_committed_with_it_or_at_once_when_nothing_waits() -> None:
    ledger: OffsetLedger[str] = OffsetLedger()
    handed = ledger.hand_out("p", end=10, rows=10, size_bytes=1)
    ledger.reach("p", 12)
    assert ledger.committable() == {}
    ledger.finish("p", handed)
    assert ledger.committable() == {"p": 12}
    ledger.reach("p", 20)
    assert ledger.committable() == {"p": 20}
    ledger.reach("p", 15)
    assert ledger.committable() == {"p": 20}
