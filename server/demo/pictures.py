"""Sample pictures for the record, drawn at seed time and marked as samples.

They stand in for the images a hospital would send, without being anybody's.
"""

import io
import math
from typing import Any

from PIL import Image, ImageDraw

from server.demo import fonts

_SIZE = (960, 720)
_PAPER, _INK, _TEAL, _AMBER = (250, 251, 250), (34, 48, 56), (28, 84, 92), (255, 176, 32)
_SCORES = {1: ((196, 226, 214), "normal", "正常"), 2: ((250, 214, 130), "hypokinetic", "运动减低"),
           3: ((226, 140, 122), "akinetic", "无运动")}  # fmt: skip
_RINGS = ((280, 205, 6, -120.0), (205, 130, 6, -120.0), (130, 60, 4, -135.0))
"""Outer and inner radius, number of segments, start angle: the AHA model's basal, middle and apical rings."""


def draw(description: dict[str, Any]) -> bytes:
    """A PNG; ``description`` is the ``picture`` of a document in ``patients/*.json``."""
    image = Image.new("RGB", _SIZE, _PAPER)
    pen = ImageDraw.Draw(image)
    text, font = fonts.bilingual(description["title"], description["title_zh"], 30)
    pen.text((40, 44), text, font=font, fill=_TEAL, anchor="lm")
    if description["kind"] == "segments":
        _segments(pen, description["scores"])
    else:
        _hours(pen, description["low"], description["high"])
    text, font = fonts.bilingual("SAMPLE DRAWING, NOT A MEDICAL IMAGE", "示例图，非医学影像", 24)
    pen.rectangle((0, 664, _SIZE[0], _SIZE[1]), fill=_AMBER)
    pen.text((_SIZE[0] / 2, 692), text, font=font, fill=_INK, anchor="mm")
    output = io.BytesIO()
    image.save(output, "PNG", optimize=True)
    return output.getvalue()


def _segments(pen: ImageDraw.ImageDraw, scores: list[int]) -> None:
    """Bull's-eye of the left ventricle's 17 segments."""
    x, y = 330, 368
    number = 0
    for outer, inner, count, start in _RINGS:
        for part in range(count):
            # The model counts anticlockwise from the anterior segment; Pillow's angles run clockwise.
            begin = start - part * 360 / count
            pen.pieslice((x - outer, y - outer, x + outer, y + outer), begin, begin + 360 / count,
                         fill=_SCORES[scores[number]][0], outline=_INK, width=2)  # fmt: skip
            number += 1
        pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=_PAPER, outline=_INK, width=2)
    pen.ellipse((x - 60, y - 60, x + 60, y + 60), fill=_SCORES[scores[16]][0], outline=_INK, width=2)
    number = 0
    for outer, inner, count, start in _RINGS:
        for part in range(count):
            angle = math.radians(start - part * 360 / count + 180 / count)
            middle = (outer + inner) / 2
            number += 1
            at = (x + middle * math.cos(angle), y + middle * math.sin(angle))
            pen.text(at, str(number), font=fonts.latin(22), fill=_INK, anchor="mm")
    pen.text((x, y), "17", font=fonts.latin(22), fill=_INK, anchor="mm")
    for row, (colour, english, chinese) in enumerate(_SCORES.values()):
        top = 250 + row * 70
        pen.rectangle((650, top, 694, top + 44), fill=colour, outline=_INK, width=2)
        text, font = fonts.bilingual(english, chinese, 22)
        pen.text((708, top + 22), text, font=font, fill=_INK, anchor="lm")


def _hours(pen: ImageDraw.ImageDraw, low: list[int], high: list[int]) -> None:
    """Lowest and highest rate in each hour of a day."""
    left, right, bottom, top = 90, 920, 600, 110

    def height(rate: float) -> float:
        return bottom - (rate - 40) * (bottom - top) / 110

    for rate in range(40, 151, 10):
        pen.line((left, height(rate), right, height(rate)), fill=(220, 228, 228), width=1)
        if rate % 20 == 0:
            pen.text((left - 12, height(rate)), str(rate), font=fonts.latin(20), fill=_INK, anchor="rm")
    step = (right - left) / 24
    for hour, (lowest, highest) in enumerate(zip(low, high, strict=True)):
        at = left + (hour + 0.2) * step
        pen.rounded_rectangle((at, height(highest), at + 0.6 * step, height(lowest)), 6, fill=(84, 150, 160))
        if hour % 3 == 0:
            pen.text((at + 0.3 * step, bottom + 22), f"{hour:02d}:00", font=fonts.latin(18), fill=_INK, anchor="mm")
    pen.text((left, 84), "bpm", font=fonts.latin(20), fill=_INK, anchor="lm")
