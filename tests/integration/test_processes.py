"""`farshore score --processes N`: one group, one fate."""

from __future__ import annotations

import psutil
import pytest

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


async def test_two_processes_share_the_work_and_stop_together(site: Site) -> None:
    parent, children = await start_two(site)
    await site.publish(EventSource(seed=61).take(1_000))
    await site.scored()
    assert (await count_site(site.settings)).receipt().scored == 1_000
    assert await parent.stop(seconds_max=15) < 15
    assert not any(child.is_running() for child in children)


async def test_when_one_process_dies_the_others_end_and_the_exit_code_says_so(site: Site) -> None:
    parent, children = await start_two(site)
    children[0].kill()
    assert await parent.ended(15) != 0
    assert not any(child.is_running() for child in children)
