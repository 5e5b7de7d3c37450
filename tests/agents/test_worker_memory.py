"""What a started worker keeps for good is no garbage collector's business any more."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from farshore.agents.worker import keep_what_is_loaded
before = len(gc.get_objects())
keep_what_is_loaded()
print(before, gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_a_full_collection_walks_through_nothing_that_was_loaded() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, frozen, left = map(int, ran.stdout.split())
    assert before > 10_000, "the worker's modules are loaded"
    assert frozen > 0.9 * before
    assert left < 0.1 * before
