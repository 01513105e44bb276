"""What a file says that cannot be: flat leads, wrong scales, limb leads that contradict each other.

Found in real files: lead-off written as 0, a stated 30.5 uV for steps of 5 uV. Neither raises an error anywhere,
both look like an ECG. A flat stretch is marked as no contact and so never drawn [W6]; the rest is told.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources.errors import Notice, NoticeCode
from media.sources.leads import LIMB
from media.sources.model import Strip

LIMB_LIMIT_NV: Final = 5_000_000
FLAT_S: Final = 2
"""No living heart is one and the same value for so long; a monitor's quantisation holds one for tenths of a second."""
MISMATCH_SHARE: Final = 0.01


def checked(strip: Strip, notices: list[Notice]) -> Strip:
    """The strip with flat stretches marked as lead-off; remarks go to ``notices``."""
    invalid = strip.invalid.copy()
    flat_samples = max(2, int(strip.rate * FLAT_S))
    for row, name in enumerate(strip.names):
        flat = flat_stretches(strip.samples[row], invalid[row] == 0, flat_samples)
        if flat.any():
            invalid[row][flat] = InvalidReason.LEAD_OFF
            seconds = float(int(flat.sum()) / strip.rate)
            notices.append(Notice(NoticeCode.FLAT, f"{name}: {seconds:.1f} s"))
        if name in LIMB and _swing(strip.samples[row], invalid[row] == 0) * strip.lsb_nv > LIMB_LIMIT_NV:
            swing_mv = _swing(strip.samples[row], invalid[row] == 0) * strip.lsb_nv / 1e6
            notices.append(Notice(NoticeCode.LIMB_AMPLITUDE, f"{name}: {swing_mv:.1f} mV"))
    strip = replace(strip, invalid=invalid)
    _check_limbs(strip, notices)
    return strip


def at_the_rails(values: NDArray[np.int32], low: int, high: int, at_least: int = 3) -> NDArray[np.bool_]:
    """Which samples stand at an end of the converter's range in a run of ``at_least``: saturated, not signal [W6].

    One alone may be the peak to which a file was scaled.
    """
    rail = (values <= low) | (values >= high)
    edges = np.flatnonzero(np.diff(rail.astype(np.int8), prepend=0, append=0))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start < at_least:
            rail[start:stop] = False
    return rail


def flat_stretches(values: NDArray[np.int16], valid: NDArray[np.bool_], at_least: int) -> NDArray[np.bool_]:
    """Which valid samples belong to a run of ``at_least`` equal valid ones."""
    flat = np.zeros(len(values), np.bool_)
    if len(values) < at_least:
        whole = bool(valid.all()) and len(values) > 1 and bool((values == values[0]).all())
        return flat | whole
    change = np.ones(len(values), np.bool_)
    change[1:] = (values[1:] != values[:-1]) | (valid[1:] != valid[:-1])
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=len(values))
    for start, length in zip(starts[lengths >= at_least], lengths[lengths >= at_least], strict=True):
        if valid[start]:
            flat[start : start + length] = True
    return flat


def limb_error(strip: Strip) -> NDArray[np.int32] | None:
    """III - (II - I) in steps where all three are signal, or None when one is not in the strip [W7]."""
    if not {"I", "II", "III"} <= set(strip.names):
        return None
    one, two, three = (strip.names.index(name) for name in ("I", "II", "III"))
    valid = (strip.invalid[[one, two, three]] == 0).all(axis=0)
    values = strip.samples.astype(np.int32)
    error: NDArray[np.int32] = (values[three] - (values[two] - values[one]))[valid]
    return error


def _check_limbs(strip: Strip, notices: list[Notice]) -> None:
    error = limb_error(strip)
    if error is None or not len(error):
        return
    # Two roundings of the device and one of ours; a wrong or reversed lead is hundreds of steps.
    wrong = int((abs(error) > 2).sum())
    if wrong > len(error) * MISMATCH_SHARE:
        worst = int(abs(error).max()) * strip.lsb_nv / 1000
        notices.append(Notice(NoticeCode.LIMB_MISMATCH, f"{wrong} of {len(error)} samples, up to {worst:.0f} uV"))


def _swing(values: NDArray[np.int16], valid: NDArray[np.bool_]) -> int:
    present = values[valid]
    return int(present.max()) - int(present.min()) if len(present) else 0
