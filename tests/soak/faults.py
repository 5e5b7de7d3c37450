"""The faults of a soak: each begins under load, ends healed, and draws its moments from the seed."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Final

from farshore.local.eventhubs import FaultKind

from ..site import until
from .scene import LONGER_THAN_ALL_SECONDS, SESSION_SECONDS, Scene
from .shifted_clock import DAY_SECONDS

__all__ = ["FAULTS", "LETHAL", "Fault"]

Fault = Callable[[Scene, Random], Awaitable[None]]

BEYOND_SESSION_SECONDS: Final = 1.6 * SESSION_SECONDS
DISK_ROOM_BYTES: Final = 64 * 1024
FULL_SECONDS_MAX: Final = 60.0
STEP_ERROR_SECONDS: Final = 3_600.0
ON_ITS_WAY_SECONDS: Final = 1.0  # for requests that the broker had already
LINE_DELAY_SECONDS: Final = 0.3
LINE_BYTES_PER_SECOND: Final = 2_000_000.0


async def scorer_killed(scene: Scene, choice: Random) -> None:
    """The youngest scorer, in whatever it is doing; its partitions move to the other, and back."""
    await scene.pause(choice.uniform(0.0, 1.5))
    scene.kill(scene.scorers[-1])
    await scene.pause(choice.uniform(0.0, BEYOND_SESSION_SECONDS))
    await scene.start_worker("score")


async def every_scorer_killed(scene: Scene, choice: Random) -> None:
    """Nobody is left to take over."""
    await scene.pause(choice.uniform(0.0, 1.5))
    count = len(scene.scorers)
    for worker in list(scene.scorers):
        scene.kill(worker)
    await asyncio.gather(*(scene.start_worker("score") for _ in range(count)))


async def bridge_killed(scene: Scene, choice: Random) -> None:
    """In mid-delivery or between two."""
    await scene.pause(choice.uniform(0.0, 1.5))
    scene.kill(scene.bridges[-1])
    await scene.start_worker("bridge")


async def broker_killed(scene: Scene, choice: Random) -> None:
    """And started again at once."""
    await scene.pause(choice.uniform(0.0, 1.0))
    await scene.outage(0.0)


async def broker_away(scene: Scene, choice: Random) -> None:
    """For longer than the session, request and poll time-outs."""
    await scene.outage(LONGER_THAN_ALL_SECONDS * choice.uniform(1.0, 1.5))


async def scorer_frozen(scene: Scene, choice: Random) -> None:
    """SIGSTOP past the session time-out: another takes its partitions, then it wakes with a batch in hand."""
    worker = choice.choice(scene.scorers)
    await scene.pause(choice.uniform(0.0, 1.0))
    worker.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(BEYOND_SESSION_SECONDS * choice.uniform(1.0, 1.5))
    worker.process.send_signal(signal.SIGCONT)


async def rebalanced(scene: Scene, choice: Random) -> None:
    """One scorer, then three, then two, under load."""
    while len(scene.scorers) > 1:
        await scene.stop(scene.scorers[-1])
    await scene.pause(choice.uniform(0.0, 1.0))
    await asyncio.gather(*(scene.start_worker("score") for _ in range(2)))
    await scene.pause(choice.uniform(0.0, 1.0))
    await scene.stop(scene.scorers[1])


async def line_cut(scene: Scene, choice: Random) -> None:
    """Connections reset at once, again and again, then none for a while."""
    before = scene.proxy.connections_accepted
    for _ in range(3):
        scene.proxy.reset()
        await scene.pause(choice.uniform(0.1, 0.6))
    scene.proxy.cut()
    await scene.pause(choice.uniform(0.5, BEYOND_SESSION_SECONDS))
    scene.proxy.heal()
    await until(lambda: scene.proxy.connections_accepted > before, "connected again")


async def line_silent(scene: Scene, choice: Random) -> None:
    """Connections stay and nothing passes, for longer than a session."""
    settings = scene.site.settings
    scene.proxy.silence()
    await asyncio.sleep(ON_ITS_WAY_SECONDS)
    before = await scene.site.committed(settings.scorer_group, settings.topic_events)
    await asyncio.sleep(BEYOND_SESSION_SECONDS * choice.uniform(1.0, 2.0))
    after = await scene.site.committed(settings.scorer_group, settings.topic_events)
    scene.proxy.heal()
    assert after == before, "scorers committed over a silent line: do they go round it?"


async def line_delayed(scene: Scene, choice: Random) -> None:
    """Every piece comes later than it did."""
    scene.proxy.slow(delay_seconds=LINE_DELAY_SECONDS)
    await scene.pause(choice.uniform(3.0, 6.0))
    scene.proxy.heal()


async def line_throttled(scene: Scene, choice: Random) -> None:
    """All connections share a narrow line."""
    scene.proxy.slow(bytes_per_second=LINE_BYTES_PER_SECOND * choice.uniform(0.2, 1.0))
    await scene.pause(choice.uniform(3.0, 6.0))
    scene.proxy.heal()


async def disk_full(scene: Scene, choice: Random) -> None:
    """No file of the broker may grow beyond a limit, so that a write fails as on a full disk: the broker
    halts; then there is room again and it is started."""
    # Those that grow for certain: full segments and Kafka's own topics may be larger and stay as they are.
    folders = Path(scene.broker.folder).rglob(f"{scene.site.settings.topic_events}-*")
    growing = [max(folder.glob("*.log")) for folder in folders]
    limit = max(path.stat().st_size for path in growing) + DISK_ROOM_BYTES
    resource.prlimit(scene.broker.pid, resource.RLIMIT_FSIZE, (limit, limit))
    await until(lambda: not scene.broker.running, "the broker halted by a full disk", FULL_SECONDS_MAX)
    await scene.pause(choice.uniform(0.0, 2.0))
    await asyncio.to_thread(scene.broker.start)


async def clock_forward(scene: Scene, choice: Random) -> None:
    """The workers' wall clock a day ahead, and right again."""
    await _clock_stepped(scene, DAY_SECONDS, choice)


async def clock_back(scene: Scene, choice: Random) -> None:
    """The workers' wall clock a day behind, and right again."""
    await _clock_stepped(scene, -DAY_SECONDS, choice)


async def _clock_stepped(scene: Scene, seconds: float, choice: Random) -> None:
    """At work until anomalies are told that were detected at the wrong time."""
    detected_ms = scene.tails.detected_ms = []
    scene.clock.set(seconds)
    try:
        await scene.pause(choice.uniform(0.0, 1.0))
        await scene.published(1_000)
        await scene.caught_up()
        await scene.tails.read()
        wrong_ms = [at for at in detected_ms if abs(at / 1000 - time.time() - seconds) < STEP_ERROR_SECONDS]
        assert wrong_ms, "no anomaly was detected on the day that the workers' clock shows"
    finally:
        scene.clock.set(0.0)


async def events_disordered(scene: Scene, choice: Random) -> None:
    """A third of the events comes a second time, all of them in any order."""
    assert scene.load is not None
    scene.load.disordered = True
    await scene.published(choice.randint(2_000, 4_000))
    scene.load.disordered = False


async def uplink_away(scene: Scene, choice: Random) -> None:
    """The hub refuses connections for a while."""
    hub = scene.site.hub
    assert hub is not None
    await hub.fault(FaultKind.REFUSE)
    await scene.pause(choice.uniform(2.0, 5.0))
    await hub.clear()


LETHAL: Final[Mapping[str, Fault]] = {
    "every scorer killed": every_scorer_killed,
    "bridge killed": bridge_killed,
}
"""Those that end the life of every worker of a kind."""

FAULTS: Final[Mapping[str, Fault]] = {
    **LETHAL,
    "scorer killed": scorer_killed,
    "broker killed": broker_killed,
    "broker away longer than all time-outs": broker_away,
    "scorer frozen past its session": scorer_frozen,
    "1, 3, 2 scorers": rebalanced,
    "line cut": line_cut,
    "line silent": line_silent,
    "line delayed": line_delayed,
    "line throttled": line_throttled,
    "broker's disk full": disk_full,
    "clock a day forward": clock_forward,
    "clock a day back": clock_back,
    "events late and repeated": events_disordered,
    "uplink away": uplink_away,
}
