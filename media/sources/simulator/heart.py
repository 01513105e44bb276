"""The heart: when what happens, and the electrical dipole it makes.

Every wave of a beat is a Gaussian in time along one direction of space (the model
of McSharry and Clifford, 2003, as a vectorcardiogram). A rhythm decides when which
beats come; fibrillation and flutter are oscillations that go on all the time. From the
dipole each lead follows by its direction (`body`), so leads always agree with each other.

Pure and seeded: the same seed gives the same heart, whatever the sample rate.
Directions: x to the left, y to the feet, z to the back, in millivolts.
"""

import bisect
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Floats = NDArray[np.float64]


class Rhythm(StrEnum):
    """What the heart does."""

    SINUS = "sinus"
    BRADYCARDIA = "bradycardia"
    TACHYCARDIA = "tachycardia"
    ATRIAL_FIBRILLATION = "af"
    ATRIAL_FLUTTER = "flutter"
    PVC = "pvc"
    BIGEMINY = "bigeminy"
    AV_BLOCK_2 = "av-block-2"
    AV_BLOCK_3 = "av-block-3"
    PACED = "paced"
    VT = "vt"
    VF = "vf"
    ASYSTOLE = "asystole"


class Territory(StrEnum):
    """Where the ST segment is raised."""

    INFERIOR = "inferior"
    ANTERIOR = "anterior"
    LATERAL = "lateral"
    POSTERIOR = "posterior"


RATES: Final = {
    Rhythm.SINUS: 72.0, Rhythm.BRADYCARDIA: 42.0, Rhythm.TACHYCARDIA: 132.0, Rhythm.ATRIAL_FIBRILLATION: 96.0,
    Rhythm.ATRIAL_FLUTTER: 75.0, Rhythm.PVC: 74.0, Rhythm.BIGEMINY: 76.0, Rhythm.AV_BLOCK_2: 80.0,
    Rhythm.AV_BLOCK_3: 34.0, Rhythm.PACED: 70.0, Rhythm.VT: 168.0, Rhythm.VF: 0.0, Rhythm.ASYSTOLE: 0.0,
}  # fmt: skip
"""Ventricular beats per minute unless told otherwise; of AV block II the atrial ones."""

_ST: Final = {
    Territory.INFERIOR: (0.05, 1.0, 0.1), Territory.ANTERIOR: (0.25, 0.0, -1.0),
    Territory.LATERAL: (1.0, -0.1, 0.05), Territory.POSTERIOR: (0.0, 0.1, 1.0),
}  # fmt: skip

ATRIAL_RATE_IN_BLOCK: Final = 82.0
PR_S: Final = 0.16
LOOK_AHEAD_S: Final = 5.0
"""Beats are decided this far ahead: an early one comes before the time of the regular one it replaces."""


@dataclass(frozen=True)
class Wave:
    """One Gaussian: ``vector`` mV at ``at_s``."""

    at_s: float
    sigma_s: float
    vector: Vector


@dataclass(frozen=True)
class Beat:
    """One beat of the ventricles, at its R peak."""

    at_s: float
    ventricular: bool
    """It began in the ventricles: it is wide, and a pulse of it is weak."""
    paced: bool = False


_P: Final = ((-PR_S, 0.024, (0.05, 0.115, 0.01)),)
_QRS: Final = (
    (-0.026, 0.009, (-0.10, -0.03, -0.24)), (0.0, 0.0125, (0.95, 0.86, 0.28)), (0.029, 0.012, (-0.16, -0.22, 0.46)),
)  # fmt: skip
_T: Final = (0.30, 0.052, (0.27, 0.21, -0.13))
_WIDE: Final = ((0.0, 0.034, (-0.75, 0.85, -0.65)), (0.045, 0.03, (-0.25, 0.30, -0.3)))
_WIDE_T: Final = (0.30, 0.062, (0.34, -0.36, 0.3))
_PACED: Final = ((0.01, 0.036, (0.55, -1.05, 0.65)), (0.05, 0.03, (0.2, -0.3, 0.2)))
_PACED_T: Final = (0.32, 0.062, (-0.26, 0.36, -0.3))
_VT: Final = ((0.0, 0.042, (-1.0, 0.5, -0.85)), (0.13, 0.055, (0.75, -0.4, 0.6)))


class Heart:
    """Beats and dipole of one patient, as far as somebody asked; forgets what is more than a few seconds past."""

    def __init__(
        self, rhythm: Rhythm, *, rate_bpm: float | None, seed: int, st_mv: dict[Territory, float] | None = None
    ) -> None:
        self.rhythm = rhythm
        self.rate_bpm = RATES[rhythm] if rate_bpm is None else rate_bpm
        self._rng = np.random.default_rng(seed)
        self._st = st_mv or {}
        self._beats: list[Beat] = []
        self._waves: list[Wave] = []
        self._paces: list[float] = []
        self._next_beat_s, self._next_atrium_s = 0.4, 0.3
        self._count = 0
        size = 8
        self._frequencies = self._rng.uniform(3.2, 7.5, size)
        self._phases = self._rng.uniform(0, 2 * np.pi, size)
        self._directions = self._rng.normal(0, 1, (size, 3))

    def dipole(self, times_s: Floats) -> Floats:
        """The dipole at rising times, shape (3, n), mV. Times must not go back by more than a second."""
        if not len(times_s):
            return np.zeros((3, 0))
        first, last = float(times_s[0]), float(times_s[-1])
        self._plan(last + LOOK_AHEAD_S)
        self._forget(first - 15.0)
        result = np.zeros((3, len(times_s)))
        near = [w for w in self._waves if first - 6 * w.sigma_s < w.at_s < last + 6 * w.sigma_s]
        if near:
            at = np.array([w.at_s for w in near])[:, None]
            sigma = np.array([w.sigma_s for w in near])[:, None]
            vectors = np.array([w.vector for w in near])
            result += vectors.T @ np.exp(-0.5 * ((times_s[None, :] - at) / sigma) ** 2)
        return result + self._oscillation(times_s)

    def beats(self, from_s: float, until_s: float) -> list[Beat]:
        """Beats with from <= time < until; of the last ten seconds that were asked for."""
        self._plan(until_s + LOOK_AHEAD_S)
        keys = [beat.at_s for beat in self._beats]
        return self._beats[bisect.bisect_left(keys, from_s) : bisect.bisect_left(keys, until_s)]

    def paces(self, from_s: float, until_s: float) -> list[float]:
        """When the pacemaker fired."""
        self._plan(until_s + LOOK_AHEAD_S)
        return [at for at in self._paces if from_s <= at < until_s]

    # ------------------------------------------------------------ rhythm

    def _plan(self, until_s: float) -> None:
        if self.rhythm in (Rhythm.VF, Rhythm.ASYSTOLE) or self.rate_bpm <= 0:
            return
        while self._next_beat_s < until_s:
            self._beat(self._next_beat_s)
        while self.rhythm is Rhythm.AV_BLOCK_3 and self._next_atrium_s < until_s:
            self._add(_P, self._next_atrium_s + PR_S)
            self._next_atrium_s += 60 / ATRIAL_RATE_IN_BLOCK

    def _beat(self, at_s: float) -> None:
        self._count += 1
        regular_s = 60 / self.rate_bpm
        rr_s = regular_s * (1 + 0.02 * math.sin(2 * math.pi * 0.25 * at_s) + float(self._rng.normal(0, 0.008)))
        match self.rhythm:
            case Rhythm.ATRIAL_FIBRILLATION:
                rr_s = max(0.33, regular_s * float(self._rng.gamma(14, 1 / 14)))
                self._normal(at_s, rr_s, p=False)
            case Rhythm.ATRIAL_FLUTTER:
                rr_s = regular_s
                self._normal(at_s, rr_s, p=False)
            case Rhythm.PVC if self._count % 7 == 0:
                self._premature(at_s, rr_s)
            case Rhythm.BIGEMINY if self._count % 2 == 0:
                self._premature(at_s, rr_s)
            case Rhythm.AV_BLOCK_2:
                self._wenckebach(at_s, rr_s)
            case Rhythm.AV_BLOCK_3:
                self._ventricular(at_s, regular_s, _WIDE, _WIDE_T)
            case Rhythm.PACED:
                rr_s = regular_s  # a pacemaker is a clock
                self._paces.append(at_s - 0.04)
                self._ventricular(at_s, rr_s, _PACED, _PACED_T, paced=True)
            case Rhythm.VT:
                rr_s = regular_s * (1 + float(self._rng.normal(0, 0.004)))
                self._add(_VT, at_s)
                self._beats.append(Beat(at_s, ventricular=True))
            case _:
                self._normal(at_s, rr_s)
        self._next_beat_s = at_s + rr_s

    def _normal(self, at_s: float, rr_s: float, *, p: bool = True, delay_s: float = 0.0) -> None:
        if p:
            self._add(_P, at_s - delay_s)
        self._add(_QRS, at_s)
        offset, sigma, vector = _T
        stretch = math.sqrt(min(1.4, rr_s))  # QT follows the rate (Bazett)
        self._waves.append(Wave(at_s + offset * stretch, sigma * stretch, vector))
        for territory, height_mv in self._st.items():
            direction = _ST[territory]
            for place in (0.075, 0.125, 0.175):  # a plateau from the end of QRS into T
                self._waves.append(Wave(at_s + place * stretch, 0.026 * stretch, _scaled(direction, 0.8 * height_mv)))
        self._beats.append(Beat(at_s, ventricular=False))

    def _premature(self, at_s: float, rr_s: float) -> None:
        """Early by a third, without a P wave; the pause after it makes up for it."""
        early_s = at_s - rr_s * 0.33
        self._ventricular(early_s, rr_s, _WIDE, _WIDE_T)

    def _ventricular(
        self,
        at_s: float,
        rr_s: float,
        qrs: tuple[tuple[float, float, Vector], ...],
        t: tuple[float, float, Vector],
        *,
        paced: bool = False,
    ) -> None:
        self._add(qrs, at_s)
        self._add((t,), at_s)
        self._beats.append(Beat(at_s, ventricular=True, paced=paced))

    def _wenckebach(self, at_s: float, rr_s: float) -> None:
        """Every fourth P wave is not conducted, and the way before it gets longer each time."""
        step = self._count % 4
        if step == 0:
            self._add(_P, at_s)
            return
        delay_s = 0.07 * (step - 1)
        self._normal(at_s + delay_s, rr_s, delay_s=delay_s)

    def _add(self, waves: tuple[tuple[float, float, Vector], ...], at_s: float) -> None:
        self._waves += [Wave(at_s + offset, sigma, vector) for offset, sigma, vector in waves]

    def _oscillation(self, times_s: Floats) -> Floats:
        if self.rhythm is Rhythm.ATRIAL_FIBRILLATION:
            return self._chaos(times_s, scale_mv=0.02)
        if self.rhythm is Rhythm.VF:
            return self._chaos(times_s, scale_mv=0.19)
        if self.rhythm is Rhythm.ATRIAL_FLUTTER:
            # Four flutter waves to a beat; a sawtooth from its first harmonics.
            angle = 2 * np.pi * (4 * self.rate_bpm / 60) * times_s
            saw = np.sin(angle) + np.sin(2 * angle) / 2 + np.sin(3 * angle) / 3
            return np.array((0.01, -0.11, -0.05))[:, None] * saw[None, :]
        return np.zeros((3, len(times_s)))

    def _chaos(self, times_s: Floats, *, scale_mv: float) -> Floats:
        angles = 2 * np.pi * self._frequencies[:, None] * times_s[None, :] + self._phases[:, None]
        swell = 0.7 + 0.3 * np.sin(2 * np.pi * 0.13 * times_s + self._phases[0])
        waves: Floats = scale_mv * swell * (self._directions.T @ np.sin(angles))
        return waves

    def _forget(self, before_s: float) -> None:
        if self._beats and self._beats[0].at_s < before_s:
            self._beats = [b for b in self._beats if b.at_s >= before_s]
            self._waves = [w for w in self._waves if w.at_s >= before_s]
            self._paces = [p for p in self._paces if p >= before_s]


def _scaled(vector: Vector, by: float) -> Vector:
    return vector[0] * by, vector[1] * by, vector[2] * by
