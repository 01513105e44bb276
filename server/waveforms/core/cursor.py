"""Where a page of frames ended, as text that means nothing to who carries it.

Pages go on by place, not by time: a device's clock may be set back between two frames, and a page that went on by
time would then leave frames out or bring them twice.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct, error
from typing import Final

from media.core.waveform import Place

_PLACE: Final = Struct("<II")
_TEXT_LENGTH: Final = 12


def write_cursor(place: Place) -> str:
    """Twelve characters of a URL."""
    return urlsafe_b64encode(_PLACE.pack(*place)).decode()


def read_cursor(text: str) -> Place | None:
    """The place; None for what `write_cursor` did not write."""
    if len(text) != _TEXT_LENGTH or not text.isascii():
        return None
    try:
        place = Place(*_PLACE.unpack(urlsafe_b64decode(text)))
    except (ValueError, error):
        return None
    return place if write_cursor(place) == text else None
