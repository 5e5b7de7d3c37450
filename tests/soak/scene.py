"""The site of a soak: a broker that may be killed, a line to it that may be cut, workers, load and the books.

Workers reach the broker through the proxy alone; load and readers reach it directly.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from aiokafka.errors import KafkaError

from farshore.agents.errors import FarshoreError
from farshore.local.broker import BrokerSettings, EmbeddedBroker
from farshore.local.ports import free_ports

from ..site import Site, Worker, make_package, open_site, until
from ..tcp_proxy import LOOPBACK, TcpProxy
from .ledger import Fence, Guarantee, Ledger, Position
from .load import MixedLoad
from .reading import TopicTails
from .shifted_clock import ShiftedClock
from .vitals import Life

SESSION_SECONDS = 3
REQUEST_SECONDS = 6
POLL_SECONDS = 6
TRANSACTION_SECONDS = 5
# Short enough that an outage of seconds is longer than all of them.
TIMEOUTS = {
    "kafka_session_timeout_seconds": str(SESSION_SECONDS),
    "kafka_request_timeout_seconds": str(REQUEST_SECONDS),
    "kafka_max_poll_interval_seconds": str(POLL_SECONDS),
    "transaction_seconds_max": str(TRANSACTION_SECONDS),
}
LONGER_THAN_ALL_SECONDS = 2.0 * max(SESSION_SECONDS, REQUEST_SECONDS, POLL_SECONDS)
CATCH_UP_SECONDS_MAX = 180.0
RESTART_SECONDS_MAX = 120.0  # a killed broker looks through all that is not flushed: an hour's gigabytes
LISTENER = "PROXY"


class Scene:
    """Everything that a fault may touch. `scorers[0]` is the elder: it is killed only with all others."""

    def __init__(
        self, broker: EmbeddedBroker, proxy: TcpProxy, site: Site, clock: ShiftedClock, guarantee: Guarantee
    ) -> None:
        names = site.settings.topics
        self.broker = broker
        self.proxy = proxy
        self.site = site
        self.clock = clock
        self.pace = 1.0
        self.scorers: list[Worker] = []
        self.bridges: list[Worker] = []
        self.load: MixedLoad | None = None
        self.loading: asyncio.Task[None] | None = None
        self.ledger = Ledger(guarantee)
        self.tails = TopicTails(site.bootstrap, names, site.settings.topic_partitions, self.ledger)
        self.lives: dict[int, Life] = {}
        self.ended: list[str] = []

    async def start_worker(self, command: str) -> Worker:
        """A scorer or a bridge behind the proxy, at work."""
        worker = self.site.launch(command, kafka_bootstrap=f"{LOOPBACK}:{self.proxy.port}")
        crew = self.scorers if command == "score" else self.bridges
        crew.append(worker)
        self.lives[worker.process.pid] = Life(command, worker.process.pid)
        await worker.working()
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL, and out of the crew."""
        worker.kill()
        self._dismiss(worker)

    async def stop(self, worker: Worker) -> None:
        """SIGTERM; in good order."""
        await worker.stop(seconds_max=30)
        self._dismiss(worker)

    async def mend_crew(self) -> None:
        """Start again, as a supervisor would, what ended unasked; a sentence of each in `ended`."""
        for command, crew in (("score", self.scorers), ("bridge", self.bridges)):
            for worker in [worker for worker in crew if not worker.running]:
                last = (worker.log.splitlines() or ["nothing"])[-1]
                self.ended.append(
                    f"a {command} ended by itself with {worker.process.returncode}, saying: {last}"
                )
                self._dismiss(worker)
                await self.start_worker(command)

    async def pause(self, seconds: float) -> None:
        """Sleep, at the scene's pace."""
        await asyncio.sleep(seconds * self.pace)

    async def outage(self, seconds: float) -> None:
        """The broker killed, and started again later."""
        await asyncio.to_thread(self.broker.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.broker.start)

    async def published(self, more: int) -> None:
        """Wait for so many more events to be acknowledged to their producer."""
        load, loading = self.load, self.loading
        assert load is not None
        assert loading is not None
        target = load.published + more

        def reached() -> bool:
            if loading.done():
                loading.result()  # what ended it is told
            return load.published >= target

        await until(reached, "load", CATCH_UP_SECONDS_MAX)

    async def raise_fence(self) -> None:
        """What is committed now is not to be repeated after this."""
        names = self.site.settings.topics
        committed = await self.site.committed(self.site.settings.scorer_group, names.events)
        self.ledger.fence(
            Fence(committed, await self.tails.ends(names.scored), await self.tails.ends(names.dead_letters))
        )

    async def caught_up(self) -> dict[int, int]:
        """Wait until what is in the topics now is scored and delivered; the ends of the events that are."""
        settings = self.site.settings
        ends = await self._reached(settings.scorer_group, settings.topic_events)
        await self._reached(settings.bridge_group, settings.topic_anomalies)
        return ends

    async def judged(self, ends: dict[int, int]) -> list[str]:
        """Read everything new and judge the events below `ends`."""
        load = self.load
        assert load is not None
        acknowledged: list[Position] = load.acknowledged
        load.acknowledged = []
        await self.tails.read()
        broken = self.ledger.judge(ends, acknowledged) + self.ended
        self.ended = []
        for worker in (*self.scorers, *self.bridges):
            self.lives[worker.process.pid].look()
        return broken

    async def end_load(self) -> None:
        """No more events; those on their way are acknowledged first."""
        assert self.load is not None
        self.load.stopping = True
        assert self.loading is not None
        await self.loading

    def told_badly(self) -> list[str]:
        """Tracebacks in the logs of workers, one sentence each."""
        return [
            f"{worker.log_path.name} has a traceback"
            for worker in self.site.workers
            if "Traceback" in worker.log
        ]

    def _dismiss(self, worker: Worker) -> None:
        for crew in (self.scorers, self.bridges):
            if worker in crew:
                crew.remove(worker)

    async def _reached(self, group: str, topic: str) -> dict[int, int]:
        ends: dict[int, int] = {}

        async def look() -> bool:
            nonlocal ends
            await self.mend_crew()
            try:
                ends = ends or await self.tails.ends(topic)
                committed = await self.site.committed(group, topic)
            except (KafkaError, FarshoreError, OSError):
                return False
            return all(committed.get(number, 0) >= end for number, end in ends.items())

        await until(look, f"{topic} read to {ends} by {group}", CATCH_UP_SECONDS_MAX)
        return ends


@asynccontextmanager
async def open_scene(
    folder: Path, *, guarantee: Guarantee, seed: int, events_per_second: int
) -> AsyncIterator[Scene]:
    """A site under load with one bridge and two scorers at work; all of it ends with the scene."""
    more = TIMEOUTS | {"guarantee": guarantee.value}
    (proxy_port,) = free_ports(1)
    settings = BrokerSettings(
        extra_listeners={LISTENER: (0, proxy_port)},
        properties={
            "group.min.session.timeout.ms": "1000",
            # A transaction that took too long is aborted soon after, not up to 10 s later.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
        },
        start_seconds_max=RESTART_SECONDS_MAX,
    )
    broker = EmbeddedBroker(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, broker.stop)
        await asyncio.to_thread(broker.start)
        target = int(broker.listener(LISTENER).rpartition(":")[2])
        proxy = await stack.enter_async_context(TcpProxy(proxy_port, target))
        prefix = f"soak.{uuid.uuid4().hex[:8]}."
        package = make_package(folder / "package")
        site = await stack.enter_async_context(open_site(broker.bootstrap, prefix, folder, package, **more))
        clock = ShiftedClock(folder / "clock")
        site.surroundings = clock.environment
        scene = Scene(broker, proxy, site, clock, guarantee)
        await asyncio.gather(*(scene.start_worker(command) for command in ("score", "score", "bridge")))
        scene.load = load = MixedLoad(
            partial(site.producer, enable_idempotence=True),
            site.settings.topic_events,
            seed,
            events_per_second,
        )
        scene.loading = running = asyncio.create_task(load.run())
        try:
            yield scene
        finally:
            load.stopping = True
            proxy.heal()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
