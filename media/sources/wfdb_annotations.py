"""WFDB annotations, MIT format: https://wfdb.io/spec/annotation-files"""

import struct
from typing import Final

from media.sources.model import Annotation

MAX_ANNOTATIONS: Final = 500_000
_SYMBOLS: Final = {
    1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q",
    14: "~", 16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t",
    28: "+", 29: "u", 30: "?", 31: "!", 32: "[", 33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(",
    40: ")", 41: "r",
}  # fmt: skip
_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63


def read_annotations(data: bytes, length: int) -> tuple[Annotation, ...]:
    """Annotations within the first ``length`` frames; a damaged rest is left away, it cannot harm a sample."""
    found: list[tuple[int, str, str]] = []
    at, sample = 0, 0
    while at + 2 <= len(data) and len(found) < MAX_ANNOTATIONS:
        (word,) = struct.unpack_from("<H", data, at)
        at += 2
        kind, step = word >> 10, word & 0x3FF
        if word == 0:
            break
        if kind == _SKIP:
            if at + 4 > len(data):
                break
            high, low = struct.unpack_from("<hH", data, at)
            sample += (high << 16) + low
            at += 4
        elif kind == _AUX:
            text = data[at : at + step].split(b"\0")[0].decode("utf-8", "replace")
            at += step + step % 2
            if found:
                found[-1] = (found[-1][0], found[-1][1], text[:200])
        elif kind in (_NUM, _SUB, _CHN):
            continue
        else:
            sample += step
            found.append((sample, _SYMBOLS.get(kind, str(kind)), ""))
    return tuple(Annotation(sample=s, symbol=symbol, text=t) for s, symbol, t in found if 0 <= s < length)
