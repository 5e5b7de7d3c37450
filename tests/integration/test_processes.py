"""`farshore score --processes N`: one group, one fate."""

from __future__ import annotations

import psutil
import pytest

from farshore.agents.commands.process_group import ORPHAN_SECONDS_MAX, PARENT_OPTION
from farshore.agents.receipts import count_site

from ..site import EventSource, Site, Worker, until

pytestmark = pytest.mark.broker


async def start_two(site: Site) -> tuple[Worker, list[psutil.Process]]:
    parent = site.launch("score", "--processes", "2")

    async def joined() -> bool:
        assert parent.running, parent.log
        return len(await site.members(site.settings.scorer_group)) == 2

    await until(joined, "two members")
    return parent, psutil.Process(parent.process.pid).children()


def is_gone(child: psutil.Process) -> bool:
    """Ended, whether or not anybody has collected it: an orphan is left to process 1, which may not care."""
    try:
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_two_processes_share_the_work_and_stop_together(site: Site) -> None:
    parent, children = await start_two(site)
    await site.publish(EventSource(seed=61).take(1_000))
    await site.scored()
    assert (await count_site(site.settings)).receipt().scored == 1_000
    await parent.stop(seconds_max=15)
    assert not any(child.is_running() for child in children)


async def test_a_signal_before_all_have_started_ends_every_one(site: Site) -> None:
    """It used to end the parent alone, and the children stayed members of the group."""
    parent = site.launch("score", "--processes", "2")

    def children() -> list[psutil.Process]:
        # Imports start processes of their own, which are no workers.
        found = psutil.Process(parent.process.pid).children()
        return [child for child in found if PARENT_OPTION in child.cmdline()]

    await until(lambda: len(children()) >= 1, "a first process")
    started = children()
    parent.process.terminate()
    assert await parent.ended() == 0
    assert not any(child.is_running() for child in started)


async def test_processes_end_by_themselves_when_their_parent_is_killed(site: Site) -> None:
    parent, children = await start_two(site)
    parent.kill()
    await until(lambda: all(map(is_gone, children)), "both gone", 4 * ORPHAN_SECONDS_MAX)


async def test_when_one_process_dies_the_others_end_and_the_exit_code_says_so(site: Site) -> None:
    parent, children = await start_two(site)
    children[0].kill()
    assert await parent.ended() != 0
    assert not any(child.is_running() for child in children)
