"""One owner for a data folder, for as long as anything of its broker is alive.

The lock belongs to an open file that the broker's process inherits. So it outlives an owner that was killed
until its broker has ended too, and a new start waits for that instead of running into the old one's ports.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from .errors import BrokerFailedError
from .guarded_process import ORPHAN_SECONDS_MAX
from .say import Say

__all__ = ["FolderLock"]

LOCK_SECONDS_MAX = ORPHAN_SECONDS_MAX + 5.0
LOCK_PAUSE_SECONDS = 0.1


class FolderLock:
    """Held from construction to `release()`; raises BrokerFailedError when another holds it for too long."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / "farshore-broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as reason:
            raise BrokerFailedError(f"cannot write to the data folder {folder}: {reason}") from reason
        try:
            _await_lock(file, folder, say)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    @property
    def inherited(self) -> tuple[int, ...]:
        """The file descriptor for the child to inherit."""
        return () if self._file is None else (self._file,)

    def release(self) -> None:
        """Give the folder up, as far as this process is concerned. Safe to call again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _await_lock(file: int, folder: Path, say: Say) -> None:
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    waited = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BrokerFailedError(f"another broker is running on the data folder {folder}") from None
        else:
            return
        if not waited:
            say(f"waiting for another broker to leave {folder}")
            waited = True
        time.sleep(LOCK_PAUSE_SECONDS)
