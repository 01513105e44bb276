"""WFDB signal formats: bytes to integers. https://wfdb.io/spec/signal-files"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Format:
    """How samples lie in a file."""

    number: int
    no_value: int
    bytes_per_two: int
    """Bytes that two samples take."""

    def samples_in(self, size_bytes: int) -> int:
        """Whole samples in so many bytes."""
        whole, rest = divmod(size_bytes, self.bytes_per_two)
        return 2 * whole + (1 if 2 * rest >= self.bytes_per_two else 0)


FORMATS: Final = {
    16: Format(16, -32768, 4),
    24: Format(24, -(2**23), 6),
    32: Format(32, -(2**31), 8),
    61: Format(61, -32768, 4),
    80: Format(80, -128, 2),
    160: Format(160, -32768, 4),
    212: Format(212, -2048, 3),
}


def unpack(kind: Format, data: bytes, count: int) -> NDArray[np.int32]:
    """The first ``count`` samples; there must be as many (`Format.samples_in`)."""
    match kind.number:
        case 16:
            return np.frombuffer(data, "<i2", count).astype(np.int32)
        case 61:
            return np.frombuffer(data, ">i2", count).astype(np.int32)
        case 160:
            return np.frombuffer(data, "<u2", count).astype(np.int32) - 32768
        case 80:
            return np.frombuffer(data, np.uint8, count).astype(np.int32) - 128
        case 32:
            return np.frombuffer(data, "<i4", count).astype(np.int32)
        case 24:
            low = np.frombuffer(data, np.uint8, 3 * count).reshape(-1, 3).astype(np.int32)
            return (low[:, 0] | low[:, 1] << 8 | low[:, 2] << 16) - ((low[:, 2] & 0x80) << 17)
        case _:
            return _unpack_212(data, count)


def _unpack_212(data: bytes, count: int) -> NDArray[np.int32]:
    """Two samples of 12 bits in three bytes; the last one alone takes two."""
    pairs = (count + 1) // 2
    padded = np.zeros(3 * pairs, np.uint8)
    used = np.frombuffer(data[: 3 * pairs], np.uint8)
    padded[: len(used)] = used
    triples = padded.reshape(-1, 3).astype(np.int32)
    values = np.empty(2 * pairs, np.int32)
    values[0::2] = triples[:, 0] | (triples[:, 1] & 0x0F) << 8
    values[1::2] = triples[:, 2] | (triples[:, 1] & 0xF0) << 4
    return (values[:count] ^ 0x800) - 0x800
