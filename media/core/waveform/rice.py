"""Split-Rice codec: lossless coding of one block of ECG leads with numpy alone.

Neighbouring samples differ by little and four of twelve leads follow from I and
II, so each lead is coded as the first sample, then the difference of order 0, 1
or 2 that is smallest on this block, zigzag-mapped and Rice-coded. The unary parts
and the remainders go into two separate bit streams: that is what lets numpy (and
a tight loop in the browser) decode without walking bit by bit.

All arithmetic is modulo 2^16, so any int16 input comes back exactly. Layout:
WAVEFORM.md section 4, "Payload 1", and media/WAVEFORM_WIRE.md.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform.errors import MalformedFrame

Int16 = NDArray[np.int16]

LIMB_LEADS: Final = 6
MAX_K: Final = 14
_MSB_FIRST: Final = np.arange(15, -1, -1, dtype=np.uint8)
_UNARY_LENGTH: Final = struct.Struct("<H")


def encode(samples: Int16, *, limb: bool) -> bytes:
    """Code one block.

    Args:
        samples: shape ``(n_leads, n)``, at least one lead and two samples.
        limb: rows 0-5 are I II III aVR aVL aVF, so the last four are sent as
            residuals against what I and II predict.
    """
    residual = _subtract_prediction(samples) if limb else samples
    steps = residual.shape[1] - 1
    candidates = _differences(residual)
    sums = candidates.sum(axis=2, dtype=np.int64)
    order = sums.argmin(axis=0)
    leads = np.arange(residual.shape[0])
    coded = candidates[order, leads]
    mean = sums[order, leads] / steps
    # A geometric distribution of mean m is coded best with 2^k close to m * ln 2.
    k = np.clip(np.floor(np.log2(mean * 0.69 + 0.3) + 0.5), 0, MAX_K).astype(np.uint8)
    unary = _pack_unary((coded >> k[:, None]).ravel())
    return b"".join(
        (
            np.ascontiguousarray(residual[:, 0]).astype("<i2").tobytes(),
            (k | (order << 4).astype(np.uint8)).tobytes(),
            _UNARY_LENGTH.pack(len(unary)),
            unary,
            _pack_remainders(coded, k),
        )
    )


def coded_length(payload: bytes, leads: int, n: int) -> int:
    """Bytes that a block of ``leads`` x ``n`` takes at the start of ``payload``.

    Raises:
        MalformedFrame: cut short, or a parameter byte out of range.
    """
    head = 3 * leads + _UNARY_LENGTH.size
    if leads < 1 or n < 2 or len(payload) < head:
        raise MalformedFrame("rice block cut short")
    remainder_bits = 0
    for parameter in payload[2 * leads : 3 * leads]:
        if parameter >> 4 > 2 or parameter & 15 > MAX_K:
            raise MalformedFrame("rice parameter out of range")
        remainder_bits += (parameter & 15) * (n - 1)
    (unary_bytes,) = _UNARY_LENGTH.unpack_from(payload, 3 * leads)
    return int(head + unary_bytes + (remainder_bits + 7) // 8)


def decode(payload: bytes, leads: int, n: int, *, limb: bool) -> Int16:
    """Exact inverse of `encode`; ``payload`` is exactly as long as `coded_length` says.

    Raises:
        MalformedFrame: the bit streams do not hold one code per sample.
    """
    base = np.frombuffer(payload, "<i2", leads)
    parameters = np.frombuffer(payload, np.uint8, leads, 2 * leads)
    k, order = np.bitwise_and(parameters, 15, dtype=np.uint8), np.right_shift(parameters, 4, dtype=np.uint8)
    (unary_bytes,) = _UNARY_LENGTH.unpack_from(payload, 3 * leads)
    start = 3 * leads + _UNARY_LENGTH.size
    steps = n - 1
    quotients = _unpack_unary(payload[start : start + unary_bytes], leads * steps).reshape(leads, steps)
    if bool(((quotients << k[:, None].astype(np.int64)) > 0xFFFF).any()):
        raise MalformedFrame("rice code exceeds 16 bits")
    remainders = _unpack_remainders(payload[start + unary_bytes :], k, steps)
    coded = (quotients.astype(np.uint16) << k[:, None].astype(np.uint16)) | remainders
    samples = np.empty((leads, n), np.int16)
    samples[:, 0] = base
    samples[:, 1:] = _unzigzag(coded)
    _integrate(samples, order)
    if limb:
        samples[2:LIMB_LEADS] += _prediction(samples[0], samples[1])
    return samples


def _prediction(lead_i: Int16, lead_ii: Int16) -> Int16:
    """III, aVR, aVL and aVF as Einthoven and Goldberger give them from I and II, modulo 2^16."""
    half_sum = ((lead_i.astype(np.int32) + lead_ii) >> 1).astype(np.int16)
    return np.stack((lead_ii - lead_i, -half_sum, lead_i - (lead_ii >> 1), lead_ii - (lead_i >> 1)))


def _subtract_prediction(samples: Int16) -> Int16:
    residual = samples.copy()
    residual[2:LIMB_LEADS] -= _prediction(samples[0], samples[1])
    return residual


def _differences(residual: Int16) -> NDArray[np.uint16]:
    """Zigzag codes of difference order 0, 1 and 2, shape ``(3, leads, n - 1)``."""
    leads, n = residual.shape
    orders = np.empty((3, leads, n - 1), np.int16)
    orders[0] = residual[:, 1:]
    np.subtract(residual[:, 1:], residual[:, :-1], out=orders[1])
    orders[2, :, 0] = orders[1, :, 0]
    np.subtract(orders[1, :, 1:], orders[1, :, :-1], out=orders[2, :, 1:])
    return ((orders << 1) ^ (orders >> 15)).view(np.uint16)


def _unzigzag(coded: NDArray[np.uint16]) -> Int16:
    return ((coded >> 1) ^ -(coded & 1)).view(np.int16)


def _integrate(samples: Int16, order: NDArray[np.uint8]) -> None:
    """Undo the differences in place; ``samples[:, 0]`` is the base and is not part of the second order."""
    for lead in np.flatnonzero(order):
        row = samples[lead]
        if order[lead] == 2:
            np.cumsum(row[1:], dtype=np.int16, out=row[1:])
        np.cumsum(row, dtype=np.int16, out=row)


def _pack_unary(quotients: NDArray[np.uint16]) -> bytes:
    stops = np.cumsum(quotients.astype(np.int64) + 1) - 1
    bits = np.zeros(int(stops[-1]) + 1, np.uint8)
    bits[stops] = 1
    return np.packbits(bits).tobytes()


def _unpack_unary(unary: bytes, count: int) -> NDArray[np.int64]:
    stops = np.flatnonzero(np.unpackbits(np.frombuffer(unary, np.uint8)))
    if len(stops) != count or int(stops[-1]) >> 3 != len(unary) - 1:
        raise MalformedFrame("rice unary stream does not hold one code per sample")
    return np.diff(stops, prepend=-1) - 1


def _pack_remainders(coded: NDArray[np.uint16], k: NDArray[np.uint8]) -> bytes:
    bits = np.unpackbits(coded.astype(">u2").view(np.uint8).reshape(*coded.shape, 2), axis=2)
    return np.packbits(bits[_remainder_mask(bits.shape, k)]).tobytes()


def _unpack_remainders(packed: bytes, k: NDArray[np.uint8], steps: int) -> NDArray[np.uint16]:
    bits = np.zeros((len(k), steps, 16), np.uint8)
    total = int(k.sum()) * steps
    bits[_remainder_mask(bits.shape, k)] = np.unpackbits(np.frombuffer(packed, np.uint8), count=total)
    return np.packbits(bits, axis=2).view(">u2").reshape(len(k), steps).astype(np.uint16)


def _remainder_mask(shape: tuple[int, ...], k: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the 16 bits (MSB first) of each code belong to its remainder."""
    return np.broadcast_to((k[:, None] > _MSB_FIRST)[:, None, :], shape)
