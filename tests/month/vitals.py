"""What the month costs: processor time and memory of each process, and the store's size on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import psutil

from farshore.agents.admin import connect_admin
from farshore.agents.log_bytes import bytes_on_disk

from ..site import Site

__all__ = ["OWN", "Vitals", "store_bytes"]

LOOK_SECONDS = 1.0
OWN = "load, hub and books"
"""The role of the process that this runs in."""


@dataclass
class Vitals:
    """Peaks and sums by role; a process that was replaced keeps its share of the sum."""

    peak_store_bytes: int = 0
    peak_mb: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def cpu(self, role: str) -> float:
        """Processor seconds of all processes of a role."""
        return sum(seconds for (name, _), seconds in self.cpu_seconds.items() if name == role)

    def look(self, role: str, pid: int) -> None:
        """Note what a process uses now; one that is gone is not looked at."""
        try:
            process = psutil.Process(pid)
            memory_mb, times = process.memory_info().rss / 1e6, process.cpu_times()
        except psutil.Error:
            return
        self.peak_mb[role] = max(self.peak_mb.get(role, 0.0), memory_mb)
        spent = times.user + times.system
        self.cpu_seconds[role, pid] = max(self.cpu_seconds.get((role, pid), 0.0), spent)

    async def watch(self, site: Site, broker_pid: int) -> None:
        """Look until cancelled."""
        while True:
            self.look("broker", broker_pid)
            self.look(OWN, psutil.Process().pid)
            for worker in site.workers:
                if worker.running:
                    self.look("bridge", worker.process.pid)
            self.peak_store_bytes = max(self.peak_store_bytes, await store_bytes(site))
            await asyncio.sleep(LOOK_SECONDS)


async def store_bytes(site: Site) -> int:
    """What the broker says that the store takes on disk."""
    names = site.settings.topics
    partitions = range(site.settings.topic_partitions)
    async with connect_admin(site.bootstrap) as admin:
        sizes = await bytes_on_disk(admin, {names.anomalies: partitions, names.deliveries: partitions})
    return sum(sizes.values())
