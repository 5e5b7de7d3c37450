"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["Figures", "LiveScreen", "PlainScreen", "Screen", "open_screen"]

_STEPS_SHOWN: Final = 9
_PLAIN_SECONDS: Final = 2.0
_COLOURS: Final = {"online": "green", "throttled": "yellow", "probing": "yellow", "offline": "red"}


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at the site. `uplink` is what the bridge believes; None while there is no bridge."""

    published: int
    total: int
    scored: int
    dead_letters: int
    events_per_second: float
    lag_scorer: int
    waiting: int
    anomalies: int
    at_hub: int
    uplink: str | None


class Screen(Protocol):
    """Where the demo tells its story."""

    def say(self, line: str) -> None:
        """A step of the story."""

    def show(self, figures: Figures) -> None:
        """The figures of the moment."""


class PlainScreen:
    """Lines to stderr; figures every two seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown = -_PLAIN_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, line: str) -> None:
        """A step of the story."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def show(self, figures: Figures) -> None:
        """The figures, at most every two seconds."""
        if self._clock() - self._shown < _PLAIN_SECONDS:
            return
        self._shown = self._clock()
        self.say(
            f"  published {figures.published:>9,}  scored {figures.scored:>9,} "
            f"({figures.events_per_second:>7,.0f}/s)  lag {figures.lag_scorer:>7,}  "
            f"anomalies {figures.anomalies:>6,}  at the hub {figures.at_hub:>6,}  "
            f"uplink {figures.uplink or 'no bridge'}"
        )


class LiveScreen:
    """A table that changes in place, with the last steps below it."""

    def __init__(self, console: Console) -> None:
        self._steps: deque[str] = deque(maxlen=_STEPS_SHOWN)
        self._figures: Figures | None = None
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def say(self, line: str) -> None:
        """A step of the story."""
        self._steps.append(line)
        self._draw()

    def show(self, figures: Figures) -> None:
        """The figures of the moment."""
        self._figures = figures
        self._draw()

    def _draw(self) -> None:
        parts: list[Table | Text] = []
        if self._figures is not None:
            parts.append(_table(self._figures))
        parts += [
            Text("· " + step, style="dim" if step is not self._steps[-1] else "") for step in self._steps
        ]
        self._live.update(Panel(Group(*parts), title="farshore demo", border_style="cyan"))


def _table(figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column(justify="right")
    table.add_column()
    bar = ProgressBar(total=figures.total, completed=figures.scored + figures.dead_letters, width=40)
    table.add_row("events", f"{figures.published:,}", "published")
    table.add_row("scored", f"{figures.scored:,}", bar)
    table.add_row("rate", f"{figures.events_per_second:,.0f}", "events a second")
    table.add_row("lag", f"{figures.lag_scorer:,}", "events not scored yet")
    table.add_row("dead letters", f"{figures.dead_letters:,}", "set aside with their reason")
    table.add_row("store", f"{figures.anomalies:,}", "anomalies found")
    table.add_row("waiting", f"{figures.waiting:,}", "anomalies not settled yet")
    table.add_row("at the hub", f"{figures.at_hub:,}", "anomalies brought home")
    state = figures.uplink or "no bridge"
    table.add_row("uplink", Text(state, style=_COLOURS.get(state, "red")), "as the bridge sees it")
    return table


def open_screen(*, plain: bool) -> LiveScreen | PlainScreen:
    """The live table on a terminal, plain lines without one or when asked."""
    console = Console(stderr=True)
    return PlainScreen() if plain or not console.is_terminal else LiveScreen(console)
