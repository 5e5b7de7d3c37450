"""`make soak SECONDS=600`: break the site for so long, print what came of it; exit 1 if a promise broke."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

from farshore.agents.errors import FarshoreError

from .ledger import Guarantee
from .record import write_record
from .report import SoakReport
from .run import soak
from .scene import open_scene


def say(line: str) -> None:
    """One line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, help="repeat the order and the moments of an earlier run")
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    parser.add_argument(
        "--guarantee", type=Guarantee, choices=list(Guarantee), default=Guarantee.AT_LEAST_ONCE
    )
    parser.add_argument("--fault", action="append", help="this one alone; may be given again (see faults.py)")
    parser.add_argument("--record", type=Path, help="write the result into this folder too")
    return parser.parse_args()


async def _run(options: argparse.Namespace, seed: int, folder: Path) -> SoakReport:
    # The load's own producer would tell of every outage that is made here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with open_scene(
        folder, guarantee=options.guarantee, seed=seed, events_per_second=options.rate
    ) as scene:
        return await soak(scene, seed=seed, seconds=options.seconds, say=say, only=options.fault)


def main() -> int:
    """The exit code."""
    options = _options()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="farshore-soak-"))
    say(f"soak: {options.seconds:g} s of faults, {options.rate} events/s, SEED={seed}, logs in {folder}")
    try:
        report = asyncio.run(_run(options, seed, folder))
    except FarshoreError as error:
        sys.stderr.write(f"soak: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("soak: ended by hand\n")
        return 130
    report.asked_seconds, report.events_per_second = options.seconds, options.rate
    say("\n" + report.table() + "\n\n" + report.verdict())
    if options.record is not None:
        say(f"written to {write_record(report, options.record)}")
    if report.broken:
        return 1
    shutil.rmtree(folder)  # logs are of interest only to find out what broke
    return 0


if __name__ == "__main__":
    sys.exit(main())
