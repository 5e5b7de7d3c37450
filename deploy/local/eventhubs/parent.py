"""Ending with the parent process, so that no server outlives the program that started it.

Linux only; elsewhere it does nothing. The kernel watches the thread that started the process, not its whole
program: start it from a thread that lives long, such as the main one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_INIT_PROCESS = 1


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent ends."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # The parent may have ended before the call; then the signal would never come.
    if os.getppid() == _INIT_PROCESS:
        os.kill(os.getpid(), signal.SIGTERM)
