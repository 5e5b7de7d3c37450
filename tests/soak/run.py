"""Fault after fault on one site, and after each the books: every event, every anomaly, every worker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from random import Random

import orjson

from farshore.agents.receipts import count_site

from ..site import stored_in
from .faults import FAULTS, LETHAL, Fault
from .report import FaultRow, LifeRow, SoakReport
from .scene import Scene
from .vitals import longest

LETHAL_SHARE = 1 / 3
"""Of the time, at its beginning: afterwards the elder scorer and the bridge live on and are looked at."""

Say = Callable[[str], None]


async def soak(
    scene: Scene, *, seed: int, seconds: float, say: Say, only: Collection[str] | None = None
) -> SoakReport:
    """Rounds of every fault, or of `only` these, in an order that the seed gives, until the time is over."""
    choice = Random(seed)
    started = time.monotonic()

    def faults() -> Iterator[str]:
        while True:
            early = time.monotonic() - started < seconds * LETHAL_SHARE
            names = [name for name in FAULTS if name not in LETHAL]
            choice.shuffle(names)
            for name in [*(LETHAL if early else ()), *names]:
                if only and name not in only:
                    continue
                if time.monotonic() - started > seconds:
                    return
                yield name

    return await run_faults(scene, faults(), choice, seed=seed, say=say)


async def run_faults(
    scene: Scene,
    names: Iterator[str],
    choice: Random,
    *,
    seed: int,
    say: Say,
    faults: Mapping[str, Fault] = FAULTS,
) -> SoakReport:
    """Inject `names` one by one; what broke is in the report, each with the fault it came after."""
    started = time.monotonic()
    report = SoakReport(seed=seed, guarantee=scene.ledger.guarantee.value, counts=scene.ledger.counts)
    await scene.published(1_000)
    await _settle(scene, report.row("no fault"), report, time.monotonic())
    for name in names:
        before = scene.ledger.counts.repeats
        row = report.row(name)
        row.injected += 1
        await scene.raise_fence()
        try:
            await faults[name](scene, choice)
            healed = time.monotonic()
            await scene.published(200)
            await _settle(scene, row, report, healed)
        except Exception as error:  # noqa: BLE001  what was found so far is to be told, whatever ended it
            report.broken.append(f"after {name}: {type(error).__name__}: {error}")
            break
        row.repeats += scene.ledger.counts.repeats - before
        say(f"{time.monotonic() - started:6.0f} s  {name}: caught up after {row.last_recovery_seconds:.1f} s")
    else:
        try:
            await _settle(scene, report.row("no fault"), report, time.monotonic())
            await _close(scene, report)
        except Exception as error:  # noqa: BLE001  as above
            report.broken.append(f"at the end: {type(error).__name__}: {error}")
    report.seconds = time.monotonic() - started
    return report


async def _settle(scene: Scene, row: FaultRow, report: SoakReport, healed: float) -> None:
    ends = await scene.caught_up()
    row.note_recovery(time.monotonic() - healed)
    broken = await scene.judged(ends)
    report.broken += [f"after {row.name}: {sentence}" for sentence in broken]


async def _close(scene: Scene, report: SoakReport) -> None:
    """No more load; then everything is counted once more, by the product's own count and at the hub."""
    await scene.end_load()
    if scene.load is not None and scene.load.kinds_unsent:
        report.broken.append(f"hostile inputs that were never sent: {', '.join(scene.load.kinds_unsent)}")
    ends = await scene.caught_up()
    report.broken += await scene.judged(ends)
    report.broken += scene.told_badly()
    report.broken += [sentence for life in scene.lives.values() for sentence in life.broken()]
    counts = scene.ledger.counts
    site = await count_site(scene.site.settings)
    receipt = site.receipt()
    if not receipt.adds_up or receipt.unread or receipt.waiting:
        report.broken.append(f"the receipt does not add up: {receipt}")
    told = (receipt.events, receipt.scored, receipt.dead_letters, receipt.anomalies)
    ours = (counts.events, counts.scored, counts.dead_letters, counts.anomalies)
    if told != ours:
        report.broken.append(f"the receipt counts {told}, the soak {ours}")
    if not site.store_is_complete:
        report.broken.append("the store and the scored anomalies differ")
    _look_at_hub(scene, report)
    for role in ("score", "bridge"):
        life = longest(scene.lives.values(), role)
        if life is not None:
            report.lives.append(LifeRow.of(life))


def _look_at_hub(scene: Scene, report: SoakReport) -> None:
    assert scene.site.hub is not None
    arrived = Counter(orjson.loads(body)["id"] for _, body in stored_in(scene.site.hub))
    report.hub_again = arrived.total() - len(arrived)
    told = {key.decode() for key, outcome in scene.tails.outcomes.items() if outcome == "acknowledged"}
    if told != set(arrived):
        report.broken.append(
            f"{len(told - set(arrived))} anomalies told as acknowledged are not at the hub, "
            f"{len(set(arrived) - told)} are there and not told"
        )
