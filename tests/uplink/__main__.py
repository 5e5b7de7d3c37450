"""`make test-uplink`: every fault of the uplink against the stand-in, as a table; exit 1 if a promise fails.

python -m tests.uplink [a word of the names of the stories to tell]
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import trustme

from farshore.agents.hub_access import HubAccess, connection_string_access, hub_access
from farshore.agents.names import NameLookup
from farshore.agents.settings import Settings
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.local.eventhubs.backend import Limits

from .stories import (
    LANES,
    MEGABYTES_A_SECOND_MIN,
    Result,
    Scene,
    Strike,
    allow_many_files,
    far_away,
    reconnect,
    tell,
)

Story = Callable[[], Coroutine[Any, Any, Result]]


def fault(kind: FaultKind, seconds: float = 6.0, count: int | None = None, *, again: bool = False) -> Strike:
    """The stand-in's fault, for a time or a number of strikes; `again`: on the way to a new connection."""

    async def strike(scene: Scene) -> None:
        await scene.hub.fault(kind, count)
        if again:
            await scene.uplink.discard()
        await asyncio.sleep(seconds)
        await scene.hub.clear()

    return strike


async def silent_names() -> Result:
    """The hub's name has to be looked up, and for a while nobody answers."""
    answering = threading.Event()
    answering.set()
    access: Callable[[EventHubsStandIn], HubAccess] = lambda hub: _Named(hub.connection_string)  # noqa: E731

    async def strike(scene: Scene) -> None:
        answering.clear()
        await scene.hub.fault(FaultKind.REFUSE)
        await scene.hub.clear()
        await asyncio.sleep(16)
        # Whatever else needs a thread gets one.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 1) == 7
        answering.set()

    return await tell(
        "name servers silent", strike, access=access, names=NameLookup(lambda *_: answering.wait())
    )


async def flap(scene: Scene) -> None:
    """Refused, silent or cut every second or so, and there again in between."""
    for kind in (FaultKind.REFUSE, FaultKind.BLACK_HOLE, FaultKind.RESET_BEFORE_STORE) * 3:
        await asyncio.sleep(0.9)
        await scene.hub.fault(kind)
        await asyncio.sleep(0.9)
        await scene.hub.clear()


class _Named(HubAccess):
    """As if the hub were somewhere else."""

    def __init__(self, connection_string: str) -> None:
        inner = connection_string_access(connection_string)
        super().__init__(inner._credentials, inner._options, None, None)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """A name that is not this machine's."""
        return (("hub.example", 5671),)


async def wrong_certificate() -> Result:
    """A certificate of somebody else, until it is put right."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))

        def access(hub: EventHubsStandIn) -> HubAccess:
            key = "Endpoint=sb://localhost;SharedAccessKeyName=k;SharedAccessKey=abc=;EntityPath=anomalies"
            return hub_access(
                Settings(
                    eventhub_connection_string=key,  # type: ignore[arg-type]
                    eventhub_endpoint=f"localhost:{hub.port}",
                    eventhub_ca_file=ca_file,
                )
            )

        async def strike(scene: Scene) -> None:
            await asyncio.sleep(6)
            assert scene.hub.stats().events == 0
            authority.issue_cert("localhost").configure_cert(context)

        hub = EventHubsStandIn(hub="anomalies", partitions=LANES, tls=context)
        return await tell("certificate wrong", strike, hub=hub, access=access, warm=False)


async def idle() -> Result:
    """A service that closes what was idle: here after 2 s and not 240, so that keep-alives come too late."""

    async def strike(scene: Scene) -> None:
        scene.paused = True
        await asyncio.sleep(7)
        scene.paused = False

    hub = EventHubsStandIn(hub="anomalies", partitions=LANES, limits=Limits(idle_timeout_seconds=2.0))
    return await tell("idle connection closed", strike, hub=hub)


def stories() -> dict[str, Story]:
    """All of them, in the order of the table."""
    faults: dict[str, Strike] = {
        "refused": fault(FaultKind.REFUSE),
        "black hole": fault(FaultKind.BLACK_HOLE, 12),
        "reset before store": fault(FaultKind.RESET_BEFORE_STORE, 3, count=3),
        "reset after store": fault(FaultKind.DROP_AFTER_STORE, 3, count=3),
        "no acknowledgement": fault(FaultKind.NO_ACK, 6, count=1),
        "busy once": fault(FaultKind.BUSY, 1, count=1),
        "busy for long": fault(FaultKind.BUSY, 15),
        "rejected": fault(FaultKind.REJECT, 3, count=2),
        "released": fault(FaultKind.RELEASE, 6, count=1),
        "session ended": fault(FaultKind.END_SESSION, 6, count=1),
        "link detached": fault(FaultKind.DETACH, 3, count=2),
        "connection closed": fault(FaultKind.CLOSE_CONNECTION, 3, count=2),
        "$cbs 401": fault(FaultKind.TOKEN_REFUSED, again=True),
        "$cbs silent": fault(FaultKind.TOKEN_IGNORED, 8, again=True),
        "token expired": fault(FaultKind.TOKEN_EXPIRED, 3, count=2),
    }

    def story(name: str, strike: Strike) -> Story:
        return lambda: tell(name, strike)

    return {
        **{name: story(name, strike) for name, strike in faults.items()},
        "flapping": story("flapping", flap),
        "name servers silent": silent_names,
        "certificate wrong": wrong_certificate,
        "idle connection closed": idle,
        "1,000 reconnects": lambda: reconnect(1_000),
    }


HEAD = f"{'fault':<24}{'longest call':>13}{'recovery':>10}{'delivered':>18}{'repeats':>14}{'memory':>10}"


async def main(words: list[str]) -> int:
    """Tell the stories one after the other; the exit code."""
    failed = 0
    sys.stdout.write(HEAD + "\n")
    for name, story in stories().items():
        if words and not any(word in name for word in words):
            continue
        result = await story()
        sys.stdout.write(
            f"{result.name:<24}{result.longest_call_seconds:>11.1f} s{result.recovery_seconds:>8.1f} s"
            f"{f'{result.delivered} of {result.expected}':>18}"
            f"{f'{result.repeats} (≤ {result.repeats_max})':>14}{result.growth_mb:>+7.1f} MB"
            f"  {result.told}{''.join(f'; FAILED: {problem}' for problem in result.problems)}\n"
        )
        sys.stdout.flush()
        failed += bool(result.problems)
    if not words or any(word in "far away" for word in words):
        megabytes, milliseconds = await far_away()
        slow = megabytes < MEGABYTES_A_SECOND_MIN
        sys.stdout.write(
            f"far away: {megabytes:.1f} MB/s at {milliseconds:.0f} ms to the acknowledgement, {LANES} "
            f"batches under way{f'; FAILED: less than {MEGABYTES_A_SECOND_MIN:g} MB/s' if slow else ''}\n"
        )
        failed += slow
    sys.stdout.write("every promise held\n" if not failed else f"{failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    allow_many_files()
    sys.exit(asyncio.run(main(sys.argv[1:])))
