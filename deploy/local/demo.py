"""`farshore demo`: the main job on this machine, with an uplink that goes down and comes back.

The story: a fleet publishes events, with faults injected and labelled and a few hostile values among them;
the scorer, its model fitted on another seed, scores each; the bridge brings the anomalies home. A third of
the way the uplink goes black, unknown to the bridge; while it is away the bridge is killed with -9 and
started again; in the end the uplink returns and everything that waited goes home. Then the topics are read
and the receipt is printed. Exit 0 only if it adds up.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
import typer
import uvloop
from rich.console import Console

from ..agents.publisher import Publisher
from ..agents.receipts import count_site
from ..streams.delivery.breaker import UplinkState
from .demo_report import DemoReport, judge_detection, read_hub, report_of
from .demo_result import print_report
from .demo_screen import Figures, Screen, open_screen
from .errors import BrokerFailedError
from .sample import write_sample_package
from .simulator import SENSORS, Fleet, FleetSettings, hostile_values
from .site import LocalSite, SiteSettings

__all__ = ["run_demo"]

FIT_SEED: Final = 11
JUDGE_SEED: Final = 42
FIT_STEPS: Final = 200
HOSTILE_SHARE: Final = 0.001
PHASE_SECONDS_MAX: Final = 900.0
OUTAGE_SECONDS_MIN: Final = 6.0

_LOOK_SECONDS: Final = 0.25
_BLOCK_STEPS: Final = 40


def run_demo(*, events: int, as_json: bool, folder: Path | None) -> int:
    """Run the demo; the exit code."""
    with (
        open_screen(plain=as_json) as screen,
        tempfile.TemporaryDirectory(prefix="farshore-demo-") as scratch,
    ):
        screen.say("fitting the model on a fleet of another seed")
        package = fit_package(Path(scratch) / "package")
        tag = f"demo-{time.time_ns() // 1_000_000}"
        settings = SiteSettings(package, folder, site="demo", extra=_settings_of(tag))
        with LocalSite(settings, screen.say) as site:
            report = uvloop.run(_Demo(site, screen, events).run())
    if as_json:
        typer.echo(orjson.dumps(report.as_dict()).decode())
    else:
        print_report(report, Console())
    return 0 if report.adds_up else 1


def fit_package(folder: Path) -> Path:
    """The sample package, fitted on a fleet without faults and with another seed than the demo's."""
    healthy = Fleet(FleetSettings(FIT_SEED, fault_share=0.0)).block(FIT_STEPS)
    return write_sample_package(folder, healthy.readings, SENSORS, name="fleet-pca", version="1")


def _settings_of(tag: str) -> dict[str, str]:
    """Topics and groups of this run alone: a user's own Kafka may hold other things."""
    topics = ("events", "scored", "anomalies", "deliveries", "audit", "dead_letters", "models")
    names = {f"topic_{name}": f"{tag}.{name.replace('_', '-')}" for name in topics}
    groups = {"scorer_group": f"{tag}.scorer", "bridge_group": f"{tag}.bridge"}
    # A person is watching: the link is tried again sooner than a site that waits for days would.
    return names | groups | {"uplink_backoff_seconds_max": "2", "uplink_connect_seconds_max": "5"}


@dataclass(slots=True)
class _Progress:
    published: int = 0
    faulty: set[tuple[str, int]] = field(default_factory=set)
    seconds_scoring: float = 0.0


class _Demo:
    """One run on a site that is up."""

    def __init__(self, site: LocalSite, screen: Screen, events: int) -> None:
        self._site = site
        self._screen = screen
        self._total = events
        self._progress = _Progress()
        self._started = time.monotonic()
        self._rate_from = (time.monotonic(), 0.0)
        self._rate = 0.0

    async def run(self) -> DemoReport:
        """The story, then the report."""
        fleet = Fleet(FleetSettings(JUDGE_SEED))
        hostile = hostile_values(JUDGE_SEED, max(8, round(self._total * HOSTILE_SHARE)))
        parts = _parts(self._total - len(hostile), 3)
        async with self._watched():
            self._screen.say(f"the fleet publishes {self._total:,} events; the uplink is up")
            await self._publish(fleet, parts[0], [])
            await self._until(self._nothing_waits, "the first anomalies were not delivered")
            self._screen.say("the uplink goes black: connections stay open and nothing answers")
            await self._site.control.fault("black-hole")
            cut = time.monotonic()
            await self._publish(fleet, parts[1], hostile)
            self._screen.say("the bridge is killed with -9, and started again by its supervisor")
            await asyncio.to_thread(self._site.kill_worker, "bridge")
            await asyncio.to_thread(self._site.start_worker, "bridge")
            await self._publish(fleet, parts[2], [])
            await asyncio.sleep(max(0.0, OUTAGE_SECONDS_MIN - (time.monotonic() - cut)))
            self._screen.say(f"the uplink is back after {time.monotonic() - cut:.0f} s")
            await self._site.control.clear()
            await self._until(self._nothing_waits, "what waited was not delivered")
        self._screen.say("reading the topics and the hub for the receipt")
        return await self._report()

    async def _report(self) -> DemoReport:
        settings = self._site.settings
        assert settings.eventhub_connection_string is not None
        count = await count_site(settings)
        stored = (await self._site.control.stats()).events
        hub = await read_hub(settings.eventhub_connection_string.get_secret_value(), stored)
        detection = await judge_detection(settings, self._progress.faulty)
        return report_of(
            count,
            hub,
            detection,
            events_per_second=self._progress.published / max(self._progress.seconds_scoring, 1e-9),
            seconds=time.monotonic() - self._started,
        )

    async def _publish(self, fleet: Fleet, events: int, hostile: list[bytes]) -> None:
        """Publish `events` of the fleet and the hostile values among them, and wait until all are scored."""
        started = time.monotonic()
        settings = self._site.settings
        async with Publisher(settings.kafka_bootstrap, settings.topic_events) as publisher:
            left = events
            while left > 0:
                block = fleet.block(_BLOCK_STEPS)
                for number, (key, value) in enumerate(block.events()[:left]):
                    await publisher.publish(key, value)
                    if block.faulty[number]:
                        self._progress.faulty.add((block.devices[number], block.times_ms[number]))
                taken = min(left, len(block))
                left -= taken
                self._progress.published += taken
                for value in hostile[:8]:
                    await publisher.publish(b"machine-000", value)
                    self._progress.published += 1
                hostile = hostile[8:]
                await asyncio.sleep(0)
            for value in hostile:
                await publisher.publish(b"machine-000", value)
                self._progress.published += 1
        await self._until(self._all_scored, "the events were not scored")
        self._progress.seconds_scoring += time.monotonic() - started

    def _all_scored(self, figures: Figures) -> bool:
        return figures.scored + figures.dead_letters >= self._progress.published

    def _nothing_waits(self, figures: Figures) -> bool:
        return figures.waiting == 0 and figures.at_hub >= figures.anomalies

    async def _until(self, done: Callable[[Figures], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PHASE_SECONDS_MAX
        while not done(await self._look()):
            for name in ("score", "bridge"):
                if not self._site.running(name):
                    raise BrokerFailedError(f"{name} ended; its log ends with:\n{self._site.log_tail(name)}")
            if time.monotonic() > deadline:
                raise BrokerFailedError(f"{otherwise} within {PHASE_SECONDS_MAX:g} s")
            await asyncio.sleep(_LOOK_SECONDS)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                self._screen.show(await self._look())
                await asyncio.sleep(_LOOK_SECONDS)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()

    async def _look(self) -> Figures:
        scorer, bridge = await asyncio.gather(
            asyncio.to_thread(self._site.metrics, "score"), asyncio.to_thread(self._site.metrics, "bridge")
        )
        score = scorer or {}
        scored = score.get("farshore_events_total{outcome=scored}", 0.0)
        all_events = score.get("farshore_events_total", 0.0)
        stats = await self._site.control.stats()
        lag = "farshore_consumer_lag_records{group=%s}"
        settings = self._site.settings
        return Figures(
            published=self._progress.published,
            total=self._total,
            scored=int(scored),
            dead_letters=int(all_events - scored),
            events_per_second=self._rate_of(all_events),
            lag_scorer=int(self._progress.published - all_events),
            waiting=int(score.get(lag % settings.bridge_group, 0.0)),
            anomalies=int(score.get("farshore_anomalies_total", 0.0)),
            at_hub=stats.events,
            uplink=None if bridge is None else list(UplinkState)[int(bridge["farshore_uplink_state"])].value,
        )

    def _rate_of(self, count: float) -> float:
        at, before = self._rate_from
        now = time.monotonic()
        if now - at >= 1.0:
            self._rate = (count - before) / (now - at)
            self._rate_from = (now, count)
        return self._rate


def _parts(total: int, count: int) -> list[int]:
    """`total` in `count` nearly equal parts."""
    return [total // count + (number < total % count) for number in range(count)]
