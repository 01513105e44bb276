"""Small plots as SVG text: axes with round ticks, lines, steps, points, bars, areas and heat cells.

Inline SVG of our own because a report must open anywhere without a network, and the eight plots need nothing that a
plotting library's tens of megabytes would bring. Colours follow the page's (light and dark) by CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 44

Point = tuple[float, float]


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

    def place(self, value: float) -> float:
        """0 to 1 along the axis; what is outside stays at its end."""
        if self.log:
            value, low, high = (math.log10(max(1e-9, one)) for one in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0

    def marks(self) -> list[float]:
        """Where the axis is labelled."""
        if not self.log:
            return ticks(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1) if self.low <= 10.0**power <= self.high * 1.001]


@dataclass
class Plot:
    """One picture; what is drawn later lies above."""

    title: str
    x: Axis
    y: Axis
    note: str = ""
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def line(self, points: Sequence[Point], colour: str, name: str = "") -> None:
        """Straight lines from point to point."""
        if points:
            self._parts.append(f'<path class="l {colour}" d="{self._path(points)}"/>')
        self._named(colour, name)

    def area(self, points: Sequence[Point], colour: str, name: str = "") -> None:
        """The same, filled down to the axis."""
        if points:
            path = self._path([(points[0][0], self.y.low), *points, (points[-1][0], self.y.low)])
            self._parts.append(f'<path class="a {colour}" d="{path}Z"/>')
        self._named(colour, name)

    def points(self, points: Iterable[Point], colour: str, name: str = "") -> None:
        """Dots."""
        for x, y in points:
            self._parts.append(f'<circle class="d {colour}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="2.5"/>')
        self._named(colour, name)

    def cell(self, x0: float, x1: float, y0: float, y1: float, strength: float, colour: str = "c1") -> None:
        """A rectangle as dark as ``strength``, 0 to 1."""
        left, top = self._x(x0), self._y(y1)
        width, height = max(0.8, self._x(x1) - left), max(0.8, self._y(y0) - top)
        self._parts.append(
            f'<rect class="f {colour}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill-opacity="{min(1.0, max(0.05, strength)):.2f}"/>'
        )

    def upright(self, x: float, text: str, colour: str = "c4") -> None:
        """A vertical line with a word at its top."""
        at = self._x(x)
        self._parts.append(f'<path class="l {colour} dash" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        self._parts.append(f'<text class="t" x="{at + 4:.1f}" y="{TOP + 11}">{escape(text)}</text>')

    def level(self, y: float, text: str, colour: str = "c4") -> None:
        """A horizontal line with a word at its end."""
        at = self._y(y)
        self._parts.append(f'<path class="l {colour} dash" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        self._parts.append(
            f'<text class="t" text-anchor="end" x="{WIDTH - RIGHT - 3}" y="{at - 4:.1f}">{escape(text)}</text>'
        )

    def words(self, x: float, y: float, text: str) -> None:
        """Text at a place."""
        self._parts.append(f'<text class="t" x="{self._x(x):.1f}" y="{self._y(y):.1f}">{escape(text)}</text>')

    def svg(self, *, alone: bool = False) -> str:
        """The picture; ``alone`` with its own colours, to be a file."""
        style = f"<style>{STYLE}</style>" if alone else ""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}">{style}'
        )
        note = f'<text class="t" x="{LEFT}" y="{HEIGHT - 4}">{escape(self.note)}</text>' if self.note else ""
        return f"{head}{self._frame()}{''.join(self._parts)}{self._names()}{note}</svg>\n"

    def _frame(self) -> str:
        parts = [f'<text class="h" x="{LEFT}" y="16">{escape(self.title)}</text>']
        for value in self.x.marks():
            at = self._x(value)
            parts.append(f'<path class="g" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(
                f'<text class="t" text-anchor="middle" x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}">{number(value)}</text>'
            )
        for value in self.y.marks():
            at = self._y(value)
            parts.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="t" text-anchor="end" x="{LEFT - 5}" y="{at + 4:.1f}">{number(value)}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        high = (TOP + HEIGHT - BOTTOM) / 2
        for place, label in (
            (f'x="{middle}" y="{HEIGHT - BOTTOM + 28}"', self.x.label),
            (f'transform="translate(13 {high}) rotate(-90)"', self.y.label),
        ):
            parts.append(f'<text class="t" text-anchor="middle" {place}>{escape(label)}</text>')
        return "".join(parts)

    def _names(self) -> str:
        parts, at = [], WIDTH - RIGHT
        for colour, name in reversed(self._legend):
            at -= 7 * len(name) + 22
            parts.append(f'<rect class="f {colour}" x="{at}" y="8" width="10" height="10"/>')
            parts.append(f'<text class="t" x="{at + 14}" y="17">{escape(name)}</text>')
        return "".join(parts)

    def _named(self, colour: str, name: str) -> None:
        if name:
            self._legend.append((colour, name))

    def _path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{self._x(x):.1f} {self._y(y):.1f}" for x, y in points)

    def _x(self, value: float) -> float:
        return LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)


STYLE = """
svg{background:#fff;font:11px system-ui,sans-serif}.h{font-weight:600;font-size:13px;fill:#1b2733}.t{fill:#52606d}
.g{stroke:#e4e8ec;fill:none}.l{fill:none;stroke-width:1.5}.dash{stroke-dasharray:4 3}.a{fill-opacity:.25}
.l.c1{stroke:#1864ab}.l.c2{stroke:#2b8a3e}.l.c3{stroke:#e67700}.l.c4{stroke:#c92a2a}.l.c5{stroke:#6741d9}
.a.c1,.d.c1,.f.c1{fill:#1864ab}.a.c2,.d.c2,.f.c2{fill:#2b8a3e}.a.c3,.d.c3,.f.c3{fill:#e67700}
.a.c4,.d.c4,.f.c4{fill:#c92a2a}.a.c5,.d.c5,.f.c5{fill:#6741d9}
"""
