"""How a step that takes seconds tells what it is doing: one line at a time, to whoever started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Say", "silent"]

Say: TypeAlias = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""
