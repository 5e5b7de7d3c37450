"""Nothing that the embedded broker starts outlives the Python process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from farshore.local.guarded_process import GuardedProcess

END_SECONDS_MAX = 60.0

BROKER_OWNER = """
import signal, time
from farshore.local.broker import EmbeddedBroker
# As in a terminal: a shell starts its background jobs, such as these tests may be, with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with EmbeddedBroker() as broker:
    print(broker.pid, broker.folder, flush=True)
    time.sleep(120)
"""

FORGETFUL_OWNER = """
from farshore.local.broker import EmbeddedBroker
broker = EmbeddedBroker().start()
print(broker.pid, broker.folder, flush=True)
"""

OWNER_WITH_A_FORKED_CHILD = """
import os, sys, time
from pathlib import Path
from farshore.local.guarded_process import GuardedProcess
guarded = GuardedProcess(["sleep", "120"], Path(sys.argv[1], "output"))
if os.fork() == 0:
    time.sleep(120)
print(guarded.pid, sys.argv[1], flush=True)
time.sleep(120)
"""


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + END_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def owner_of(script: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """Run a script, in a session of its own, that prints the guarded process id and a folder."""
    owner = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        yield owner, int(pid), Path(folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.pid, signal.SIGKILL)
        owner.communicate()


@pytest.mark.broker
def test_the_broker_and_its_temporary_data_end_when_the_owner_is_killed_with_nine():
    with owner_of(BROKER_OWNER) as (owner, pid, folder):
        assert not gone(pid)
        assert folder.exists()
        owner.kill()
        owner.wait(END_SECONDS_MAX)
        assert eventually(lambda: gone(pid))
        assert eventually(lambda: not folder.exists())


@pytest.mark.broker
def test_control_c_reaches_the_owner_alone_and_the_owner_ends_the_broker():
    with owner_of(BROKER_OWNER) as (owner, pid, folder):
        assert os.getsid(pid) == pid  # not the session that the terminal's signal goes to
        os.killpg(owner.pid, signal.SIGINT)
        _, complained = owner.communicate(timeout=END_SECONDS_MAX)
        assert complained.rstrip().endswith("KeyboardInterrupt")
        assert gone(pid)
        assert not folder.exists()


@pytest.mark.broker
def test_a_termination_signal_to_the_owner_ends_the_broker_too():
    with owner_of(BROKER_OWNER) as (owner, pid, folder):
        owner.terminate()
        assert owner.wait(END_SECONDS_MAX) == -signal.SIGTERM
        assert eventually(lambda: gone(pid) and not folder.exists())


@pytest.mark.broker
def test_an_owner_that_ends_without_stopping_the_broker_still_stops_it():
    with owner_of(FORGETFUL_OWNER) as (owner, pid, folder):
        assert owner.wait(END_SECONDS_MAX) == 0
        assert gone(pid)
        assert not folder.exists()


def test_a_forked_child_that_lives_on_does_not_keep_the_guarded_process_alive(tmp_path):
    with owner_of(OWNER_WITH_A_FORKED_CHILD, str(tmp_path)) as (owner, pid, _):
        owner.kill()
        owner.wait(END_SECONDS_MAX)
        assert eventually(lambda: gone(pid))


def test_no_watcher_lingers_when_the_guarded_process_was_ended(tmp_path):
    guarded = GuardedProcess(["sleep", "120"], tmp_path / "output")
    assert guarded.end(END_SECONDS_MAX) == -signal.SIGTERM

    def session_is_empty() -> bool:
        return not [pid for pid in psutil.pids() if session_of(pid) == guarded.pid and not gone(pid)]

    assert eventually(session_is_empty)


def test_a_process_that_ignores_the_termination_signal_is_killed_after_the_time(tmp_path):
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    guarded = GuardedProcess(["sh", "-c", stubborn], tmp_path / "output")
    assert eventually(lambda: (tmp_path / "output").read_text() == "ready\n")
    assert guarded.end(0.3) == -signal.SIGKILL


def test_errors_go_to_their_own_file_when_one_is_given(tmp_path):
    guarded = GuardedProcess(["sh", "-c", "echo out; echo err >&2"], tmp_path / "out", tmp_path / "err")
    assert guarded.wait(END_SECONDS_MAX) == 0
    assert (tmp_path / "out").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
