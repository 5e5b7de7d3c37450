"""The soak in its short form: each fault that no other test injects, with hostile events at 5 % throughout.

`make soak` goes round all faults for as long as it is told. Kills, a frozen scorer and a broker that is away
for long have tests of their own beside this one.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from ..soak.faults import FAULTS
from ..soak.ledger import Guarantee
from ..soak.report import SoakReport
from ..soak.run import run_faults
from ..soak.scene import open_scene

# The first of these tests makes the whole run.
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

INJECTED = (
    "events late and repeated",
    "clock a day forward",
    "clock a day back",
    "line cut",
    "line silent",
    "line delayed",
    "line throttled",
    "1, 3, 2 scorers",
    "broker's disk full",
)
EVENTS_PER_SECOND = 1_000
PACE = 0.4


async def run_once(folder: Path, seed: int) -> SoakReport:
    choice = random.Random(seed)
    names = random.Random(seed).sample(INJECTED, len(INJECTED))
    async with open_scene(
        folder, guarantee=Guarantee.AT_LEAST_ONCE, seed=seed, events_per_second=EVENTS_PER_SECOND
    ) as scene:
        scene.pace = PACE
        return await run_faults(scene, iter(names), choice, seed=seed, say=print)


@pytest.fixture(scope="module")
def short_soak(tmp_path_factory: pytest.TempPathFactory) -> SoakReport:
    """One site through all of INJECTED, and its report."""
    seed = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(2**32)))
    sys.stdout.write(f"FAULT_SEED={seed}\n")
    report = asyncio.run(run_once(tmp_path_factory.mktemp("soak"), seed))
    sys.stdout.write(report.table() + "\n" + report.verdict() + "\n")
    return report


@pytest.mark.parametrize("name", INJECTED)
def test_after_each_fault_every_event_has_its_outcome_and_nothing_that_was_committed_is_repeated(
    short_soak: SoakReport, name: str
) -> None:
    assert name in FAULTS
    assert [broken for broken in short_soak.broken if broken.startswith(f"after {name}:")] == []
    assert name in short_soak.rows, f"not reached: {short_soak.broken}"
    assert short_soak.rows[name].injected == 1


def test_at_the_end_the_books_the_receipt_and_the_hub_agree_and_no_worker_has_grown(
    short_soak: SoakReport,
) -> None:
    assert short_soak.broken == []
    counts = short_soak.counts
    assert counts.events == counts.scored + counts.dead_letters
    assert counts.hostile > 0.03 * counts.events
    assert counts.anomalies > 100
    assert len(short_soak.lives) == 2
