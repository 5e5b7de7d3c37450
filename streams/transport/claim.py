"""Makes an assignment one's own before anything of it is handed out (exactly-once mode).

In order:
  1. every earlier owner is locked out (OffsetOwner.take)
  2. nothing that was under way can change a commit any more (stable_offsets.py)
  3. only now commits are read, positions given (continuity.py) and batches handed out
What is committed with them begins where the last owner's commit
ended, whoever that was and whatever it still tries. None of it depends on the group's membership, so a worker
that is wrong about its assignment does no harm.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from uuid import UUID

from .positions import Gap, Reading, ReadingWatch

__all__ = ["ClaimedWatch", "PartitionClaim"]


class PartitionClaim:
    """Wanted after an assignment, held when steps 1 and 2 are done, dropped when it is taken away."""

    def __init__(self, steps: Callable[[], Coroutine[object, object, None]]) -> None:
        self._steps = steps
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._held = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether the assignment is one's own."""
        return self._held.is_set()

    async def wait(self) -> None:
        """Until it is."""
        await self._held.wait()

    def want(self) -> None:
        """There is an assignment: begin anew with the next `advance`."""
        self.drop()
        self._wanted = True

    def drop(self) -> None:
        """There is none any more."""
        self._wanted = False
        self._held.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def advance(self, seconds_max: float) -> None:
        """Go on with the steps for at most `seconds_max`; raises what they met."""
        if not self._wanted:
            await asyncio.sleep(seconds_max)
            return
        if self._task is None:
            self._task = asyncio.create_task(self._steps())
        task = self._task
        await asyncio.wait({task}, timeout=seconds_max)
        if task.done() and not task.cancelled() and task is self._task:
            self._task = None
            self._wanted = False
            task.result()
            self._held.set()


class ClaimedWatch:
    """A ReadingWatch that lets nothing be read before the claim is held."""

    def __init__(self, watch: ReadingWatch, claim: PartitionClaim) -> None:
        self._watch = watch
        self._claim = claim

    async def before_reading(self, partition_counts: Mapping[str, int]) -> None:
        """The claim first."""
        await self._claim.wait()
        await self._watch.before_reading(partition_counts)

    async def known_lives(self, partitions: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], UUID]:
        """As the watch knows them."""
        return await self._watch.known_lives(partitions)

    async def note(self, gaps: Sequence[Gap], readings: Sequence[Reading]) -> None:
        """As the watch tells them."""
        await self._watch.note(gaps, readings)
