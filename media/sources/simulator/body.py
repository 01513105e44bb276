"""From the dipole to electrodes, and from electrodes to leads.

Electrodes come first because what goes wrong goes wrong at an electrode: one that falls off takes
every lead that needs it with it, two that are swapped swap leads. Directions of I, II and V1-V6 are those of Dower
(1980); those of the extra leads are estimates by where they lie on the chest.

III and the augmented leads are computed from the rounded I and II, as monitors do, so III = II - I holds
exactly and the others within half a step [W7].
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources.leads import STANDARD

EXTRA_LEADS: Final = ("V7", "V8", "V9", "V3R", "V4R")
LIMBS: Final = ("RA", "LA", "LL")
_DOWER: Final = {
    "I": (0.632, -0.235, 0.059), "II": (0.235, 1.066, -0.132), "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387), "V3": (0.882, 0.098, -1.277), "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086), "V6": (0.831, 0.076, 0.230), "V7": (0.600, 0.070, 0.430),
    "V8": (0.370, 0.060, 0.580), "V9": (0.150, 0.050, 0.640), "V3R": (-0.620, 0.110, -0.480),
    "V4R": (-0.650, 0.110, -0.240),
}  # fmt: skip
_NEEDS: Final = {
    "I": ("RA", "LA"), "II": ("RA", "LL"), "III": ("LA", "LL"), "aVR": LIMBS, "aVL": LIMBS, "aVF": LIMBS,
}  # fmt: skip

Electrodes = dict[str, NDArray[np.float64]]
"""Potential of each electrode, mV, shape (n,)."""


def lead_names(*, extra: int = 0) -> tuple[str, ...]:
    """The twelve leads, and as many extra ones."""
    return (*STANDARD, *EXTRA_LEADS[:extra])


def electrodes_for(leads: tuple[str, ...]) -> tuple[str, ...]:
    """The electrodes that these leads need."""
    return (*LIMBS, *(lead for lead in leads if lead not in STANDARD[:6]))


def potentials(dipole_mv: NDArray[np.float64], leads: tuple[str, ...]) -> Electrodes:
    """Electrode potentials of a dipole; the right arm is the reference."""
    of = {lead: np.array(direction) @ dipole_mv for lead, direction in _DOWER.items()}
    result: Electrodes = {"RA": np.zeros(dipole_mv.shape[1]), "LA": of["I"], "LL": of["II"]}
    terminal = (of["I"] + of["II"]) / 3
    for lead in electrodes_for(leads)[3:]:
        result[lead] = of[lead] + terminal
    return result


def measured(electrodes: Electrodes, leads: tuple[str, ...], lsb_nv: int) -> NDArray[np.int16]:
    """Leads in steps, shape (leads, n)."""
    per_mv = 1_000_000 / lsb_nv
    one = _steps((electrodes["LA"] - electrodes["RA"]) * per_mv)
    two = _steps((electrodes["LL"] - electrodes["RA"]) * per_mv)
    limb = {
        "I": one, "II": two, "III": two - one, "aVR": -((one + two) >> 1), "aVL": one - (two >> 1),
        "aVF": two - (one >> 1),
    }  # fmt: skip
    terminal = (electrodes["RA"] + electrodes["LA"] + electrodes["LL"]) / 3
    rows = [limb[lead] if lead in limb else _steps((electrodes[lead] - terminal) * per_mv) for lead in leads]
    stacked: NDArray[np.int16] = np.clip(np.stack(rows), -32_768, 32_767).astype(np.int16)
    return stacked


def _steps(values: NDArray[np.float64]) -> NDArray[np.int32]:
    # 15 bits, so that III = II - I cannot leave 16.
    return np.clip(np.rint(values), -16_383, 16_383).astype(np.int32)


def off_reasons(off: dict[str, NDArray[np.bool_]], leads: tuple[str, ...], samples: int) -> NDArray[np.uint8]:
    """Why samples are no signal when electrodes have no contact: chest leads need all three limbs (the terminal)."""
    reasons = np.zeros((len(leads), samples), np.uint8)
    for row, lead in enumerate(leads):
        for electrode in _NEEDS.get(lead, (*LIMBS, lead)):
            if electrode in off:
                reasons[row][off[electrode]] = InvalidReason.LEAD_OFF
    return reasons
