"""Small plots as SVG text: axes with round ticks, lines, areas, points, heat cells, and rows of bars or marks below.

Inline SVG of our own because a report must open anywhere without a network, and the eight plots need nothing that a
plotting library's tens of megabytes would bring. Colours are CSS classes: those of Okabe and Ito, which people tell
apart whose eyes do not tell red from green, darker on white and lighter on black. Colour is never alone: each has its
own dash as a line, its own shape as a point, and its name in the legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 52, 44
NOTE = 16
ROW, ROWS_HEAD = 18, 22
LABEL = 150
LETTER = 6.4
"""Width of a letter of the legend."""
MOST_NAMES = 8
MOST_ROWS = 60

Point = tuple[float, float]
SHAPES = {
    "c1": "M-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0Z", "c2": "M-2.4-2.4h4.8v4.8h-4.8Z", "c3": "M0-3.2L3 2.4H-3Z",
    "c4": "M-3-3L3 3M3-3L-3 3", "c5": "M0-3.4L3.4 0L0 3.4L-3.4 0Z",
}  # fmt: skip
"""Of points, by colour, around their place."""


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers that span a range: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        high = low + 1
    rough = (high - low) / max(1, count)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """As people write it: 1200000 is 1.2M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = 1e3 if letter == "k" else limit
            return f"{value / scale:.3g}{letter}"
    return f"{value:.4g}"


@dataclass
class Axis:
    """One direction of a plot."""

    label: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    names: Sequence[str] = ()
    """What stands at 0, 1, 2... instead of numbers."""
    marked_from: float = -math.inf
    """Below is no mark: something else is drawn there."""

    def place(self, value: float) -> float:
        """0 to 1 along the axis; what is outside stays at its end."""
        if self.log:
            value, low, high = (math.log10(max(1e-9, one)) for one in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0

    def marks(self) -> list[tuple[float, str]]:
        """Where the axis is labelled, and with what."""
        if self.names:
            step = -(-len(self.names) // MOST_NAMES)
            return [(float(at), name) for at, name in enumerate(self.names) if (len(self.names) - 1 - at) % step == 0]
        return [(one, number(one)) for one in self._rounds() if one >= self.marked_from]

    def _rounds(self) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1.0,) if last - first > 4 else (1.0, 2.0, 5.0)
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [one for one in found if self.low <= one * 1.001 and one <= self.high * 1.001]


@dataclass
class Plot:
    """One picture; what is drawn later lies above."""

    title: str
    x: Axis
    y: Axis
    note: str = ""
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str, str]] = field(default_factory=list)
    _below: list[str] = field(default_factory=list)
    _below_px: int = 0
    _uprights: int = 0

    def line(self, points: Sequence[Point], colour: str, name: str = "") -> None:
        """Straight lines from point to point."""
        if points:
            self._parts.append(f'<path class="l {colour}" d="{self._path(points)}"/>')
        self._named("l", colour, name)

    def area(self, points: Sequence[Point], colour: str, name: str = "") -> None:
        """The same, filled down to the axis."""
        if points:
            path = self._path([(points[0][0], self.y.low), *points, (points[-1][0], self.y.low)])
            self._parts.append(f'<path class="a {colour}" d="{path}Z"/>')
        self._named("a", colour, name)

    def points(self, points: Iterable[Point], colour: str, name: str = "") -> None:
        """Marks of the colour's own shape."""
        places = (f'<path class="d {colour}" transform="translate({self._x(x):.1f} {self._y(y):.1f})" d="{shape}"/>'
                  for shape in (SHAPES[colour],) for x, y in points)  # fmt: skip
        self._parts.extend(places)
        self._named("d", colour, name)

    def cell(self, x0: float, x1: float, y0: float, y1: float, strength: float, colour: str = "c1") -> None:
        """A rectangle as dark as ``strength``, 0 to 1."""
        left, top = self._x(x0), self._y(y1)
        width, height = max(0.8, self._x(x1) - left), max(0.8, self._y(y0) - top)
        self._parts.append(
            f'<rect class="f {colour}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill-opacity="{min(1.0, max(0.05, strength)):.2f}"/>'
        )

    def upright(self, x: float, text: str, colour: str = "c4") -> None:
        """A vertical line with a word near its top; neighbours' words stand in three rows."""
        at, row = self._x(x), self._uprights % 3
        self._uprights += 1
        left, end = (at + 4, "start") if at < WIDTH - RIGHT - LETTER * len(text) else (at - 4, "end")
        self._parts.append(f'<path class="l {colour} dash" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        self._parts.append(
            f'<text class="t halo" text-anchor="{end}" x="{left:.1f}" y="{TOP + 12 + 13 * row}">{escape(text)}</text>'
        )

    def level(self, y: float, text: str, colour: str = "c4") -> None:
        """A horizontal line with a word at its end."""
        at = self._y(y)
        self._parts.append(f'<path class="l {colour} dash" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        self._parts.append(
            f'<text class="t halo" text-anchor="end" x="{WIDTH - RIGHT - 3}" y="{at - 4:.1f}">{escape(text)}</text>'
        )

    def words(self, x: float, y: float, text: str) -> None:
        """Text at a place."""
        self._parts.append(f'<text class="t halo" x="{self._x(x):.1f}" y="{self._y(y):.1f}">{escape(text)}</text>')

    def bars(self, title: str, rows: Sequence[tuple[str, float, float]], unit: str) -> None:
        """Below the picture, on a scale of their own: a name, a thick bar and a thin one that is longer."""
        if not rows:
            return
        top = self._begin_rows(title)
        most = max([far for _, _, far in rows] + [1e-9])
        room = WIDTH - RIGHT - LEFT - LABEL - 96
        for index, (name, near, far) in enumerate(rows):
            at = top + ROW * index
            left = LEFT + LABEL
            self._below.append(
                f'<text class="t" text-anchor="end" x="{left - 6}" y="{at + 11}">{escape(name)}</text>'
                f'<rect class="f c1" fill-opacity=".35" x="{left}" y="{at + 4}" width="{room * far / most:.1f}" '
                f'height="6"/><rect class="f c1" x="{left}" y="{at + 2}" width="{room * near / most:.1f}" height="10"/>'
                f'<text class="t" x="{left + room * far / most + 6:.1f}" y="{at + 11}">'
                f"{number(near)}; {number(far)} {escape(unit)}</text>"
            )
        self._below_px += ROW * len(rows)

    def raster(self, title: str, rows: Sequence[tuple[str, Sequence[float]]], colour: str = "c4") -> None:
        """Below the picture, along the same x axis: a row for each name, a mark for each time."""
        if not rows:
            return
        top, shown = self._begin_rows(title), rows[:MOST_ROWS]
        for index, (name, times) in enumerate(shown):
            at = top + ROW * index
            marks = "".join(f"M{self._x(one):.1f} {at + 2}v{ROW - 5}" for one in times)
            self._below.append(
                f'<text class="t" text-anchor="end" x="{LEFT - 5}" y="{at + 12}">{escape(name)}</text>'
                f'<path class="g" d="M{LEFT} {at + ROW}H{WIDTH - RIGHT}"/><path class="m {colour}" d="{marks}"/>'
            )
        self._below_px += ROW * len(shown)

    def _begin_rows(self, title: str) -> int:
        top = HEIGHT + self._below_px
        self._below.append(f'<text class="b" x="{LEFT}" y="{top + 10}">{escape(title)}</text>')
        self._below_px += ROWS_HEAD
        return top + ROWS_HEAD

    def svg(self, *, alone: bool = False) -> str:
        """The picture; ``alone`` with its own colours, to be a file."""
        style = f"<style>{STYLE}</style>" if alone else ""
        height = HEIGHT + self._below_px + (NOTE if self.note else 0)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(self.title)}">{style}'
        )
        note = f'<text class="t" x="{LEFT}" y="{height - 5}">{escape(self.note)}</text>' if self.note else ""
        inside = "".join((*self._parts, *self._below))
        return f"{head}{self._frame()}{inside}{self._names()}{note}</svg>\n"

    def _frame(self) -> str:
        parts = [f'<text class="h" x="{LEFT}" y="16">{escape(self.title)}</text>']
        for value, text in self.x.marks():
            at = self._x(value)
            parts.append(f'<path class="g" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(
                f'<text class="t" text-anchor="middle" x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}">{escape(text)}</text>'
            )
        for value, text in self.y.marks():
            at = self._y(value)
            parts.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="t" text-anchor="end" x="{LEFT - 5}" y="{at + 4:.1f}">{escape(text)}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        high = (TOP + HEIGHT - BOTTOM) / 2
        for place, label in (
            (f'x="{middle}" y="{HEIGHT - BOTTOM + 31}"', self.x.label),
            (f'transform="translate(13 {high}) rotate(-90)"', self.y.label),
        ):
            parts.append(f'<text class="t" text-anchor="middle" {place}>{escape(label)}</text>')
        return "".join(parts)

    def _names(self) -> str:
        """The legend, in a line of its own under the title."""
        parts, at, line = [], float(LEFT), 28
        for kind, colour, name in self._legend:
            if at > LEFT and at + 27 + LETTER * len(name) > WIDTH - RIGHT:
                at, line = float(LEFT), line + 14
            match kind:
                case "l":
                    mark = f'<path class="l {colour}" d="M{at:.1f} {line}h22"/>'
                case "d":
                    place = f"translate({at + 11:.1f} {line})"
                    mark = f'<path class="d {colour}" transform="{place}" d="{SHAPES[colour]}"/>'
                case _:
                    mark = f'<rect class="a {colour}" x="{at:.1f}" y="{line - 5}" width="22" height="10"/>'
            parts.append(f'{mark}<text class="t" x="{at + 27:.1f}" y="{line + 4}">{escape(name)}</text>')
            at += 27 + LETTER * len(name) + 16
        return "".join(parts)

    def _named(self, kind: str, colour: str, name: str) -> None:
        if name:
            self._legend.append((kind, colour, name))

    def _path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self._x(x):.1f} {self._y(y):.1f}" for x, y in points)

    def _x(self, value: float) -> float:
        return LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)


def _coloured(name: str, variable: str) -> str:
    return f".l.{name},.m.{name}{{stroke:var({variable})}}.a.{name},.d.{name},.f.{name}{{fill:var({variable})}}"


STYLE = (
    """
:root{--paper:#fff;--ink:#1b2733;--soft:#52606d;--rule:#e4e8ec;--good:#00694c;--bad:#b3261e;--warn:#fdf1ef;
--c1:#0072b2;--c2:#00855f;--c3:#d55e00;--c4:#1b2733;--c5:#a8518a}
@media (prefers-color-scheme:dark){:root{--paper:#12181f;--ink:#e6edf3;--soft:#a3b1bf;--rule:#2a3440;--good:#4fd1a5;
--bad:#ff8a80;--warn:#2b1b1a;--c1:#56b4e9;--c2:#35c495;--c3:#ff9a4a;--c4:#e6edf3;--c5:#e39ac6}}
svg{background:var(--paper);font:11.5px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.h{font-weight:600;font-size:13.5px;fill:var(--ink)}.b{font-weight:600;fill:var(--soft)}.t{fill:var(--soft)}
.halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
.g{stroke:var(--rule);fill:none}.l{fill:none;stroke-width:1.6}.m{fill:none;stroke-width:1.5}.a{fill-opacity:.22}
.l.c2{stroke-dasharray:8 3}.l.c3{stroke-dasharray:2 2.5}.l.c5{stroke-dasharray:9 3 2 3}.l.dash{stroke-dasharray:4 3}
.d{fill-opacity:.75}.d.c4{stroke:var(--c4);stroke-width:1.4}
"""
    + "".join(_coloured(f"c{one}", f"--c{one}") for one in range(1, 6))
    + "\n"
)
