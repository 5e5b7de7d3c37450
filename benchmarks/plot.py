"""Line charts as SVG, without a library: a few points, two axes, a legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 20, 42, 52
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#8250df")
INK = "#57606a"
GRID = "#d0d7de"
TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """A named line through points, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Where a value stands, in pixels."""
        low, high, here = self.low, self.high, value
        if self.logarithmic:
            low, high, here = math.log10(low), math.log10(high), math.log10(value)
        return self.begin + (here - low) / (high - low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Powers of ten, or even steps."""
        if self.logarithmic:
            powers = range(
                math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1
            )
            return [10.0**power for power in powers]
        step = (self.high - self.low) / TICKS
        return [self.low + number * step for number in range(TICKS + 1)]


def line_chart(
    title: str,
    x_name: str,
    y_name: str,
    series: Sequence[Series],
    *,
    logarithmic: bool = True,
    y_logarithmic: bool = False,
) -> str:
    """The chart; with `logarithmic`, x is logarithmic and every x must be above 0. y begins at 0.

    With `y_logarithmic` y is too, from one power of ten to another; every y must be above 0.
    """
    across = [x for line in series for x, _ in line.points]
    up = [y for line in series for _, y in line.points]
    low, high = (min(across), max(across)) if across else (1.0, 10.0)
    if low == high:
        low, high = low / 2, high * 2
    x_axis = _Axis(low, high, logarithmic, LEFT, WIDTH - RIGHT)
    y_low, y_high = 0.0, _round_up(max(up, default=1.0))
    if y_logarithmic:
        y_low = 10.0 ** math.floor(math.log10(min(up, default=1.0)))
        y_high = max(10.0 ** math.ceil(math.log10(max(up, default=1.0))), 10 * y_low)
    y_axis = _Axis(y_low, y_high, y_logarithmic, HEIGHT - BOTTOM, TOP)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'font-family="sans-serif" font-size="12" fill="{INK}">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 18, title, size=14),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, anchor="middle"),
        _text(LEFT - 6, TOP - 8, y_name, anchor="end"),
    ]
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 6, y + 4, _number(tick), anchor="end")]
    for tick in x_axis.ticks():
        x = x_axis.at(tick)
        parts += [
            _line(x, TOP, x, HEIGHT - BOTTOM),
            _text(x, HEIGHT - BOTTOM + 16, _number(tick), anchor="middle"),
        ]
    for number, line in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if logarithmic:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(WIDTH - RIGHT, TOP - 8 - 14 * number, line.name, anchor="end", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= value)


def _number(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {letter}"
    return f"{value:.3g}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GRID}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
