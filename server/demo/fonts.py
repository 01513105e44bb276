"""Fonts for pictures drawn at run time.

Pillow's built-in scalable font has no Chinese characters, and a drawn box
instead of a character looks like damage. So Chinese is drawn only where the
machine has a font for it; the Latin text always carries the meaning alone.
"""

from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_CJK_PLACES = (
    ("/usr/share/fonts", "**/NotoSansCJK-Regular.ttc"),
    ("/usr/share/fonts", "**/NotoSansSC-Regular.*"),
    ("/usr/share/fonts", "**/SourceHanSans*Regular.*"),
    ("/usr/share/fonts", "**/wqy-*.ttc"),
    ("/System/Library/Fonts", "PingFang.ttc"),
    ("/System/Library/Fonts", "STHeiti Medium.ttc"),
    ("C:/Windows/Fonts", "msyh.ttc"),
)


@cache
def _cjk_file() -> Path | None:
    for folder, pattern in _CJK_PLACES:
        for path in sorted(Path(folder).glob(pattern)) if Path(folder).is_dir() else ():
            return path
    return None


@cache
def latin(size_px: int) -> Font:
    """Pillow's own font; it is always there."""
    return ImageFont.load_default(size_px)


@cache
def cjk(size_px: int) -> Font | None:
    """A font with Chinese characters, or None when this machine has none."""
    path = _cjk_file()
    if path is None:
        return None
    try:
        return ImageFont.truetype(str(path), size_px)
    except OSError:  # a damaged font file is as good as none
        return None


def bilingual(latin_text: str, chinese_text: str, size_px: int) -> tuple[str, Font]:
    """Text and font to draw: both languages where possible, else the Latin text alone."""
    font = cjk(size_px)
    return (f"{latin_text} {chinese_text}", font) if font is not None else (latin_text, latin(size_px))
