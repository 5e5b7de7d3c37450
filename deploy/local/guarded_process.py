"""A child process that cannot outlive the Python process that started it.

Guarantees
1. The child runs in its own session: Ctrl-C in the terminal does not reach it; its owner ends it.
2. When the owner ends in whatever way, `kill -9` included, the child gets SIGTERM and after
   ORPHAN_SECONDS_MAX SIGKILL; then the folder `remove_when_orphaned`, if given, is removed.
3. No other process is ever signalled by mistake.

How: `sh` forks a watcher that reads a pipe whose other end only the owner holds, then becomes the child by
`exec`. The end of the file means that the owner is gone. The watcher stays in the child's session, so the
system cannot give the child's process id to another process while the watcher lives. The parent-death signal
of Linux is no choice: it fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from .errors import BrokerFailedError

__all__ = ["GuardedProcess"]

ORPHAN_SECONDS_MAX = 10
KILL_SECONDS_MAX = 10.0

WATCHED_EXEC = """
folder=$1; seconds=$2; shift 2
exec 3<&0
(
    trap '' TERM INT HUP
    IFS= read -r settled && exit 0
    kill -TERM $$ 2>/dev/null
    while [ "$seconds" -gt 0 ] && kill -0 $$ 2>/dev/null; do sleep 1; seconds=$((seconds - 1)); done
    kill -KILL $$ 2>/dev/null
    [ -z "$folder" ] || rm -rf -- "$folder"
) <&3 3<&- >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"""


class GuardedProcess:
    """One run of a program; it prints to `output`, written anew, and its errors there too or to `errors`."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        output: Path,
        errors: Path | None = None,
        *,
        inherited: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        remove_when_orphaned: Path | None = None,
    ) -> None:
        read_end, self._write_end = os.pipe()
        _OPEN_PIPES.add(self._write_end)
        folder = remove_when_orphaned or ""
        guard: list[str | Path] = ["sh", "-c", WATCHED_EXEC, "sh", folder, str(ORPHAN_SECONDS_MAX)]
        try:
            with output.open("wb") as printed, _error_target(errors) as complained:
                self._process = subprocess.Popen(
                    [*guard, *arguments],
                    stdin=read_end,
                    stdout=printed,
                    stderr=complained,
                    pass_fds=inherited,
                    env=environment,
                    start_new_session=True,
                )
        except BaseException:
            self._dismiss_watcher()
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """The child's process id, which is also its session."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the child has not ended yet."""
        return self._process.poll() is None

    def wait(self, timeout_seconds: float) -> int | None:
        """The exit status, negative for a signal; None when the child still runs after the time."""
        try:
            status = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        self._dismiss_watcher()
        return status

    def end(self, timeout_seconds: float) -> int:
        """SIGTERM, then SIGKILL after the time; returns the exit status. Safe to call again."""
        if self.running():
            self._process.terminate()
        status = self.wait(timeout_seconds)
        return self.kill() if status is None else status

    def kill(self) -> int:
        """SIGKILL at once; returns the exit status when the child is gone."""
        if self.running():
            self._process.send_signal(signal.SIGKILL)
        try:
            status = self._process.wait(KILL_SECONDS_MAX)
        except subprocess.TimeoutExpired as reason:
            raise BrokerFailedError(f"process {self.pid} does not end, not even by SIGKILL") from reason
        self._dismiss_watcher()
        return status

    def _dismiss_watcher(self) -> None:
        """Tell the watcher that the child is settled; without the word, closing the pipe means death."""
        if self._write_end in _OPEN_PIPES:
            _OPEN_PIPES.discard(self._write_end)
            with contextlib.suppress(BrokenPipeError):
                os.write(self._write_end, b"settled\n")
            os.close(self._write_end)


def _error_target(errors: Path | None) -> AbstractContextManager[IO[bytes] | int]:
    return errors.open("wb") if errors else contextlib.nullcontext(subprocess.STDOUT)


_OPEN_PIPES: set[int] = set()


def _close_pipes_of_owner() -> None:
    for pipe in _OPEN_PIPES:
        os.close(pipe)
    _OPEN_PIPES.clear()


# A forked (not executed) child of the owner would hold the pipe open beyond the owner's death.
os.register_at_fork(after_in_child=_close_pipes_of_owner)
