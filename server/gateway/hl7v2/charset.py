"""MSH-18: from bytes to text without guessing.

In GBK, GB 18030 and Big5 the second byte of a character may be ``|``, ``^``, ``\\`` or ``~``: text is decoded before it
is split, and the MSH-18 that chose the charset is read again after decoding. Text that is not in its charset is
refused: a replaced character in a name or a drug is worse than a message that the sender is told about. So is UTF-8
that calls itself something else: every charset of one byte, and often GBK, would read other words out of it.
"""

import codecs
import re
from collections import Counter
from typing import Final

from server.gateway.hl7v2.errors import Hl7Code, Hl7Refused

_SHIFTING: Final = "gb18030"
"""Decodes GB 2312 and GBK as well; senders that say GB2312 write GBK."""

CODECS: Final[dict[str, str]] = {
    "ASCII": "ascii", "US-ASCII": "ascii", "ISO IR6": "ascii",
    "8859/1": "iso8859-1", "8859/2": "iso8859-2", "8859/3": "iso8859-3", "8859/4": "iso8859-4", "8859/5": "iso8859-5",
    "8859/6": "iso8859-6", "8859/7": "iso8859-7", "8859/8": "iso8859-8", "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8",
    "GB 18030-2000": _SHIFTING, "GB18030": _SHIFTING, "GB18030-2000": _SHIFTING, "GBK": _SHIFTING,
    "GB2312": _SHIFTING, "GB 2312-1980": _SHIFTING, "CP936": _SHIFTING,
    "BIG-5": "big5hkscs", "BIG5": "big5hkscs",
}  # fmt: skip
"""HL7 table 0211 and what Chinese systems write for it. UTF-16 and UTF-32 cannot be framed by MLLP."""
_BOM: Final = codecs.BOM_UTF8
_C1: Final = re.compile(rb"[\x80-\x9f]")
_WINDOWS: Final = {"iso8859-1": "cp1252", "iso8859-15": "cp1252"}


def codec_of(name: str) -> str | None:
    """Python's name of a charset of MSH-18, None when it is none that is taken."""
    return CODECS.get(" ".join(name.upper().split()))


def decode(data: bytes, default: str, seen: Counter[str]) -> tuple[str, str]:
    """Text of a message, and the name of its charset as MSH-18 has it (or the default).

    Args:
        data: the message, BOM allowed.
        default: charset (as in MSH-18) where the message names none.
        seen: what was tolerated is counted here.

    Raises:
        Hl7Refused: ``charset``: an unknown one, or bytes that are not in it.
    """
    if data.startswith(_BOM):
        seen["bom"] += 1
        data = data[len(_BOM) :]
    header = _first_line(data.decode("iso8859-1"))
    named = codec_of(_msh18(header) or default)
    tried = [named, codec_of(default)] + ([] if header.isascii() else [_SHIFTING, "big5hkscs"])
    for codec in dict.fromkeys(one for one in tried if one is not None):
        text = _decoded(data, codec, seen)
        if text is None or _is_utf8_after_all(data, codec):
            continue
        name = _msh18(_first_line(text))
        if codec_of(name or default) == codec:
            return text, name or default
        if named == codec_of(name) == "ascii":  # says ASCII, writes its own: the site's default says which
            seen["not_ascii"] += 1
            return text, default
    raise Hl7Refused(Hl7Code.CHARSET, "MSH-18")


def _decoded(data: bytes, codec: str, seen: Counter[str]) -> str | None:
    if codec.startswith("iso8859") and _C1.search(data):
        # Control characters of 8859 that nobody sends: what Windows writes there are dashes and quotation marks.
        # Left out, "5–10 mg" would be 510 mg.
        if codec not in _WINDOWS:
            return None
        codec = _WINDOWS[codec]
        seen["windows_1252"] += 1
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _is_utf8_after_all(data: bytes, codec: str) -> bool:
    """Whether text that another charset could also be read in was written in UTF-8: it would come out as other words.

    Two bytes that are one character of UTF-8 may be a Chinese character of GBK as well; three in a row that all fit are
    not chance.
    """
    if codec in ("utf-8", "ascii"):
        return False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    least = "\x80" if codec.startswith("iso8859") else "\u0800"
    return any(sign >= least for sign in text)


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _msh18(header: str) -> str:
    fields = header.split(header[3]) if len(header) > 8 else []
    if len(fields) <= 17:
        return ""
    repetition = header[5] if len(fields[1]) > 1 else "~"
    return fields[17].split(repetition)[0].strip()
