"""The picture of the simulated partner room.

A consulting room drawn with plain shapes, so that the project ships no film
and nobody's face. Everything that moves has a period that divides the loop,
so the last frame leads into the first. Two things are always in the picture:
the SIMULATED mark, so that it can never pass for a real room [W9], and a
running counter, so that a frozen picture is seen to be frozen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from server.demo import fonts

WIDTH, HEIGHT = 1280, 720
_SCALE = 2
"""Shapes are drawn twice as large and halved: smooth edges."""

_WALL_TOP, _WALL_LOW = (214, 226, 226), (188, 206, 208)
_TEAL, _TEAL_DARK = (42, 118, 122), (28, 84, 92)
_WOOD, _WOOD_DARK = (176, 134, 96), (140, 102, 70)
_SKIN, _SKIN_2, _HAIR, _HAIR_2 = (236, 196, 166), (226, 180, 146), (52, 44, 44), (74, 56, 46)
_COAT, _COAT_SHADE, _SCRUBS, _SCRUBS_SHADE = (248, 250, 250), (216, 224, 228), (86, 150, 190), (66, 124, 164)
_INK, _AMBER = (34, 48, 56), (255, 176, 32)

_PEOPLE_BOX = (360, 180, 1040, 560)
"""Where people move, left, top, right, bottom; redrawn for every frame."""
_SKY_BOX = (70, 110, 330, 380)
_CLOCK_CENTRE, _CLOCK_RADIUS = (1150, 160), 58


def _wave(phase: float, cycles: int, offset: float = 0.0) -> float:
    """-1 to 1; a whole number of cycles per loop keeps the seam invisible."""
    return math.sin(2 * math.pi * (phase * cycles + offset))


class _Pen:
    """Draws in picture coordinates on an enlarged crop of the picture."""

    def __init__(self, image: Image.Image, left: int = 0, top: int = 0) -> None:
        self._draw = ImageDraw.Draw(image)
        self._left, self._top = left, top

    def _at(self, points: tuple[float, ...]) -> list[float]:
        return [(p - (self._left, self._top)[i % 2]) * _SCALE for i, p in enumerate(points)]

    def box(self, *points: float, fill: tuple[int, int, int], radius: float = 0) -> None:
        self._draw.rounded_rectangle(self._at(points), radius * _SCALE, fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: tuple[int, int, int]) -> None:
        self._draw.ellipse(self._at((x - rx, y - ry, x + rx, y + ry)), fill=fill)

    def shape(self, *points: float, fill: tuple[int, int, int]) -> None:
        self._draw.polygon(self._at(points), fill=fill)

    def line(self, *points: float, fill: tuple[int, int, int], width: float) -> None:
        self._draw.line(self._at(points), fill=fill, width=round(width * _SCALE), joint="curve")


@dataclass(frozen=True)
class _Look:
    """How one person is dressed and moves."""

    x: float
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    coat: tuple[int, int, int]
    shade: tuple[int, int, int]
    nods: int
    offset: float
    long_hair: bool


_DOCTOR = _Look(560, _SKIN, _HAIR, _COAT, _COAT_SHADE, 2, 0.0, False)
_NURSE = _Look(850, _SKIN_2, _HAIR_2, _SCRUBS, _SCRUBS_SHADE, 3, 0.3, True)


def _person(pen: _Pen, look: _Look, phase: float) -> None:
    breath = 3 * _wave(phase, 3, look.offset)
    x = look.x + 5 * _wave(phase, 1, look.offset)
    shoulder = 400 + breath
    head_x = x + 9 * _wave(phase, look.nods, look.offset)
    head_y = 300 + breath + 5 * _wave(phase, look.nods, look.offset + 0.25)
    if look.long_hair:
        pen.oval(head_x, head_y + 16, 68, 88, look.hair)
    pen.shape(x - 118, 620, x - 96, shoulder + 14, x - 40, shoulder - 24, x + 40, shoulder - 24,
              x + 96, shoulder + 14, x + 118, 620, fill=look.coat)  # fmt: skip
    pen.shape(x - 24, shoulder - 26, x, shoulder + 60, x + 24, shoulder - 26, fill=look.shade)
    pen.box(x - 19, shoulder - 52, x + 19, shoulder - 14, fill=look.skin, radius=12)
    pen.oval(head_x, head_y, 54, 64, look.skin)
    pen.shape(head_x - 56, head_y - 6, head_x - 50, head_y - 46, head_x - 20, head_y - 72, head_x + 24, head_y - 72,
              head_x + 52, head_y - 44, head_x + 56, head_y - 6, head_x + 36, head_y - 34, head_x - 34, head_y - 30,
              fill=look.hair)  # fmt: skip
    blink = abs(_wave(phase, 2, look.offset)) > 0.985
    for side in (-20, 20):
        pen.oval(head_x + side, head_y + 2, 6, 1.5 if blink else 6.5, _INK)
    talk = 3 + 5 * max(0.0, _wave(phase, 10, look.offset)) * (_wave(phase, 1, look.offset) > 0)
    pen.oval(head_x, head_y + 34, 13, talk, (168, 84, 84))


def _people(pen: _Pen, phase: float) -> None:
    _person(pen, _NURSE, phase)
    _person(pen, _DOCTOR, phase)
    pen.line(530, 396, 536, 450, 560, 470, 584, 450, 590, 396, fill=_TEAL_DARK, width=5)
    pen.oval(560, 474, 9, 9, _TEAL_DARK)
    lift = 26 * max(0.0, _wave(phase, 2, 0.1))
    pen.line(468, 430, 424, 520, 462, 548 - lift, fill=_COAT_SHADE, width=34)
    pen.oval(466, 544 - lift, 19, 19, _SKIN)


def _sky(pen: _Pen, phase: float) -> None:
    left, top, right, low = _SKY_BOX
    span = right - left + 160
    pen.box(left, top, right, low, fill=(168, 208, 232))
    for start, height, size in ((0.1, 165, 26), (0.45, 205, 20), (0.8, 150, 16)):
        x = left - 80 + ((start + phase) % 1.0) * span
        for dx, dy, grow in ((-1.3, 4, 0.8), (0, 0, 1.1), (1.3, 5, 0.9)):
            pen.oval(x + dx * size, height + dy, size * 1.2 * grow, size * 0.7 * grow, (244, 248, 250))
    pen.shape(left, low, left, 310, 150, 270, 230, 320, right, 280, right, low, fill=(120, 164, 132))
    pen.shape(left, low, left, 345, 190, 318, right, 350, right, low, fill=(92, 140, 110))
    pen.box((left + right) / 2 - 4, top, (left + right) / 2 + 4, low, fill=(244, 246, 246))


def _furniture(pen: _Pen) -> None:
    pen.box(56, 96, 344, 394, fill=(244, 246, 246), radius=6)
    pen.box(44, 390, 356, 408, fill=(228, 232, 232), radius=4)
    pen.box(1030, 350, 1250, 362, fill=_WOOD)
    for i, colour in enumerate(((206, 96, 84), _TEAL, (226, 180, 92), (104, 124, 168), _TEAL_DARK, (206, 96, 84))):
        pen.box(1046 + i * 25, 276 + (i % 3) * 8, 1066 + i * 25, 350, fill=colour, radius=2)
    pen.oval(*_CLOCK_CENTRE, _CLOCK_RADIUS + 8, _CLOCK_RADIUS + 8, _TEAL_DARK)
    pen.box(0, 556, WIDTH, HEIGHT, fill=_WOOD, radius=0)
    pen.box(0, 556, WIDTH, 570, fill=_WOOD_DARK)
    pen.box(960, 440, 1230, 560, fill=(58, 68, 74), radius=10)
    pen.box(972, 452, 1218, 546, fill=(24, 58, 66), radius=4)
    pen.box(1070, 556, 1120, 584, fill=(58, 68, 74), radius=4)
    pen.box(1030, 580, 1160, 590, fill=(58, 68, 74), radius=4)
    pen.box(640, 596, 800, 676, fill=(246, 246, 242), radius=3)
    for row in range(4):
        pen.box(654, 612 + row * 14, 654 + (120, 96, 128, 70)[row], 616 + row * 14, fill=(170, 182, 188))


def _background() -> Image.Image:
    big = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE))
    draw = ImageDraw.Draw(big)
    for y in range(HEIGHT * _SCALE):
        t = y / (HEIGHT * _SCALE)
        shade = tuple(round(a + (b - a) * t) for a, b in zip(_WALL_TOP, _WALL_LOW, strict=True))
        draw.line((0, y, WIDTH * _SCALE, y), fill=shade)
    _furniture(_Pen(big))
    picture = big.reduce(_SCALE)
    draw = ImageDraw.Draw(picture)
    text, font = fonts.bilingual("SAMPLE PARTNER HOSPITAL", "示例协作医院", 26)
    draw.text((700, 70), text, font=font, fill=_TEAL_DARK, anchor="mm")
    text, font = fonts.bilingual("Consulting room", "会诊室", 20)
    draw.text((700, 104), text, font=font, fill=_TEAL, anchor="mm")
    return picture


def _mark(picture: Image.Image) -> None:
    """The permanent mark, opaque, on top of everything."""
    draw = ImageDraw.Draw(picture)
    text, font = fonts.bilingual("SIMULATED", "模拟", 40)
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    draw.rounded_rectangle((24, 20, 24 + right - left + 40, 84), 12, fill=_AMBER)
    draw.text((44 - left, 52), text, font=font, fill=(40, 28, 0), anchor="lm")


class Scene:
    """Frames of the loop; one object draws them all so that the still parts are drawn once.

    Args:
        frames: length of the loop.
        fps: frames per second, for the counter.
    """

    def __init__(self, frames: int, fps: int) -> None:
        self._frames, self._fps = frames, fps
        self._still = _background()
        _mark(self._still)
        noise = np.random.default_rng(20).normal(0.0, 1.6, (HEIGHT + 64, WIDTH + 64))
        self._grain = np.rint(np.clip(noise, -16, 16)).astype(np.int8).view(np.uint8)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame ``index`` as RGB, shape (720, 1280, 3)."""
        phase = index / self._frames
        picture = self._still.copy()
        for box, paint in ((_SKY_BOX, _sky), (_PEOPLE_BOX, _people)):
            self._moving(picture, box, phase, paint)
        draw = ImageDraw.Draw(picture)
        self._clock(draw, phase)
        for row in range(5):
            length = 90 + 70 * _wave(phase, 1 + row % 3, row / 5)
            draw.rectangle((986, 464 + row * 16, 986 + length, 472 + row * 16), fill=(84, 196, 176))
        seconds = index / self._fps
        text = f"{seconds:04.1f} s / {self._frames / self._fps:.0f} s   frame {index:03d}"
        draw.rounded_rectangle((880, 652, 1256, 696), 8, fill=(20, 32, 38))
        draw.text((1068, 674), text, font=fonts.latin(24), fill=(236, 244, 244), anchor="mm")
        return np.asarray(picture)

    def _moving(
        self, picture: Image.Image, box: tuple[int, int, int, int], phase: float, paint: Callable[[_Pen, float], None]
    ) -> None:
        size = ((box[2] - box[0]) * _SCALE, (box[3] - box[1]) * _SCALE)
        crop = picture.crop(box).resize(size, Image.Resampling.NEAREST)
        paint(_Pen(crop, box[0], box[1]), phase)
        picture.paste(crop.reduce(_SCALE), box[:2])

    def _clock(self, draw: ImageDraw.ImageDraw, phase: float) -> None:
        x, y = _CLOCK_CENTRE
        radius = _CLOCK_RADIUS
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(250, 250, 248))
        for hour in range(12):
            sin, cos = math.sin(hour * math.pi / 6), math.cos(hour * math.pi / 6)
            draw.line((x + 46 * sin, y - 46 * cos, x + 53 * sin, y - 53 * cos), fill=_INK, width=3)
        angle = 2 * math.pi * phase
        draw.line((x, y, x + 48 * math.sin(angle), y - 48 * math.cos(angle)), fill=(206, 70, 60), width=4)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=_INK)

    def add_grain(self, luma: NDArray[np.uint8], index: int) -> None:
        """Sensor grain in place, so that the stream weighs what a camera's weighs; the same in every round.

        Args:
            luma: Y plane in video range (16-235), shape (720, 1280): the grain of at most
                16 steps can then not leave the byte, and wrapping addition is exact.
        """
        top, left = (index * 37) % 64, (index * 23) % 64
        np.add(luma, self._grain[top : top + HEIGHT, left : left + WIDTH], out=luma)
