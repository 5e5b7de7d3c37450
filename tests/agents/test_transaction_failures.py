"""What ends a transaction: waited for without end, for a named number of times, or not at all."""

from __future__ import annotations

import logging
from asyncio import InvalidStateError
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    InvalidTopicError,
    InvalidTxnState,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    UnsupportedVersionError,
)
from faust.types import TP

from farshore.agents.faust_app import WorkerApp
from farshore.agents.transaction_failures import RETAKE_SECONDS_MAX, UNEXPECTED_MAX, TransactionFailures
from farshore.agents.transactions import TransactionalResults

SICK, WELL = TP("events", 0), TP("events", 1)


def unexpected(cause: BaseException, times: int = 1) -> KafkaError:
    """As aiokafka's sender ends; once more for the look-up of a coordinator."""
    error = KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause if times == 1 else unexpected(cause, times - 1)
    return error


@dataclass
class Around:
    """The app and its consumer, as far as lanes that fail ask for them."""

    fatal: BaseException | None = None
    lost: list[TP] = field(default_factory=list)

    @property
    def consumer(self) -> Around:
        return self

    def lose(self, partitions: set[TP]) -> None:
        self.lost += partitions

    def note_committed(self, offsets: dict[TP, int]) -> None:
        assert offsets

    def stop_on_error(self, error: BaseException) -> None:
        self.fatal = error


@pytest.mark.parametrize(
    "error",
    [
        ProducerFenced(),
        OSError("a line that was cut"),
        unexpected(InvalidTxnState()),
        unexpected(CoordinatorNotAvailableError()),
        unexpected(TimeoutError()),
        unexpected(CoordinatorNotAvailableError(), times=2),
    ],
)
def test_what_is_known_to_pass_is_waited_for_without_end(error: BaseException) -> None:
    failures = TransactionFailures()
    assert not any(failures.fatal(SICK, error) for _ in range(UNEXPECTED_MAX * 20))


@pytest.mark.parametrize("error", [MessageSizeTooLargeError(), KafkaError(), AssertionError()])
def test_what_is_no_failure_of_the_client_ends_the_worker_at_once(error: BaseException) -> None:
    assert TransactionFailures().fatal(SICK, error) is error


@pytest.mark.parametrize("times", [1, 2])
def test_a_broker_that_refuses_ends_the_worker_at_once_and_by_its_name(times: int) -> None:
    refusal = ClusterAuthorizationFailedError()
    assert TransactionFailures().fatal(SICK, unexpected(refusal, times)) is refusal


@pytest.mark.parametrize(
    "cause",
    [
        AssertionError(),
        InvalidStateError(),
        TypeError(),
        AttributeError(),
        UnsupportedVersionError(),
        InvalidTopicError(),
    ],
)
def test_what_aiokafka_does_not_expect_costs_a_new_client_and_at_the_limit_the_worker(
    cause: BaseException,
) -> None:
    """A broker that halted and a line that was cut once ended workers so; found by the soak. Then nothing
    did, and a fault in the program was tried again for ever."""
    results = TransactionalResults(cast(WorkerApp, around := Around()))
    for _ in range(UNEXPECTED_MAX - 1):
        results.failed(SICK, unexpected(cause))
    assert around.lost == [SICK] * (UNEXPECTED_MAX - 1)
    assert around.fatal is None
    results.failed(SICK, unexpected(cause))
    assert around.fatal is cause
    assert around.lost == [SICK] * (UNEXPECTED_MAX - 1)


def test_a_row_ends_with_a_commit_of_its_own_partition_and_with_nothing_else() -> None:
    results = TransactionalResults(cast(WorkerApp, around := Around()))
    for _ in range(3):
        for _ in range(UNEXPECTED_MAX - 1):
            results.failed(SICK, unexpected(TypeError()))
        results.note_committed(SICK, 1)
    assert around.fatal is None
    for _ in range(UNEXPECTED_MAX):
        results.note_committed(WELL, 1)
        results.failed(SICK, ProducerFenced())  # what passes meanwhile does not end it either
        results.failed(SICK, unexpected(TypeError()))
    assert isinstance(around.fatal, TypeError)


def test_a_partition_that_fails_again_and_again_waits_longer_whatever_others_commit() -> None:
    failures, waits = TransactionFailures(), []
    assert failures.wait_seconds({SICK, WELL}) == 0
    for _ in range(8):
        failures.fatal(SICK, ProducerFenced())
        failures.committed(WELL)
        waits.append(failures.wait_seconds({SICK, WELL}))
    assert waits == sorted(waits)
    assert waits[0] < 0.5
    assert waits[-1] == RETAKE_SECONDS_MAX
    assert failures.wait_seconds({WELL}) == 0  # SICK has gone to another worker
    failures.committed(SICK)
    assert failures.wait_seconds({SICK, WELL}) == 0


def test_the_first_failure_is_told_and_the_first_that_nobody_expected_until_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = TransactionFailures()

    def told() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    with caplog.at_level(logging.WARNING):
        # As a worker that was frozen finds all of its partitions taken.
        for error in (ProducerFenced(), unexpected(TypeError("an int"))):
            for _ in range(4):
                failures.fatal(SICK, error)
                failures.fatal(WELL, error)
        first, second = told()
        assert "events/0" in first
        assert "(ProducerFenced)" in first
        assert "(TypeError('an int'))" in second
        failures.committed(WELL)
        failures.fatal(WELL, ProducerFenced())
        assert told() == []  # the other one still fails
        failures.committed(WELL)
        failures.keep({WELL})  # and is another worker's now
        failures.fatal(WELL, ProducerFenced())
        assert len(told()) == 1
