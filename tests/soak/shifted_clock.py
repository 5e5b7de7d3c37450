"""The wall clock of worker processes, set forward and back while they run."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

SHIM = Path(__file__).with_name("clock")
DAY_SECONDS = 86_400.0


class ShiftedClock:
    """Workers started with `environment` see the machine's time plus what `set` says, at once."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        self._path = path
        with path.open("r+b") as file:
            self._view = mmap.mmap(file.fileno(), 8)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the processes whose clock this is."""
        return {"SOAK_CLOCK": str(self._path), "PYTHONPATH": str(SHIM)}

    def set(self, seconds: float) -> None:
        """So far from the machine's time from now on; 0 is right."""
        struct.pack_into("<q", self._view, 0, int(seconds * 1e9))
