"""Whether the extension can be built here: without a compiler farshore must work all the same."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

__all__ = ["COMPILER", "INCLUDE", "can_build"]

COMPILER = shutil.which("cc")
INCLUDE = Path(sysconfig.get_paths()["include"])


def can_build() -> bool:
    """Whether there are a compiler and Python's headers."""
    return COMPILER is not None and (INCLUDE / "Python.h").exists()
