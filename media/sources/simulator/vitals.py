"""Vital signs that fit the rhythm, each with its own time; one that is switched off is simply not there (W8)."""

import math
from collections.abc import Iterator
from typing import Final

from media.sources.model import VITAL_UNITS, Vital, VitalCode
from media.sources.simulator.heart import Heart, Rhythm

EVERY_S: Final[dict[VitalCode, float]] = {"HR": 1.0, "Pulse": 1.0, "SpO2": 1.0, "Resp": 2.0, "Temp": 2.0}
"""As monitors renew them; a display blanks what is not renewed within 5 s, a cuff's pressure aside (W8)."""
WINDOW_S: Final = 8.0
FIRST_NIBP_S: Final = 4.0
_NO_PULSE: Final = frozenset({Rhythm.VF, Rhythm.ASYSTOLE})


class VitalSigns:
    """What the monitor's other sensors measure.

    Args:
        on: which are connected.
        nibp_every_s: time between cuff measurements.
    """

    def __init__(self, heart: Heart, on: frozenset[VitalCode], nibp_every_s: float) -> None:
        self._heart, self._on, self._nibp_every_s = heart, on, nibp_every_s
        self._next = {code: (FIRST_NIBP_S if code == "NIBP" else 1.0) for code in on}

    def until(self, now_s: float) -> Iterator[Vital]:
        """Everything determined since the last call, at times up to ``now_s`` on the heart's clock."""
        for code in sorted(self._on):
            while self._next[code] <= now_s:
                at_s = self._next[code]
                self._next[code] += self._nibp_every_s if code == "NIBP" else EVERY_S[code]
                yield self._measure(code, at_s)

    def _measure(self, code: VitalCode, at_s: float) -> Vital:
        value = self._value(code, at_s)
        quality = "invalid" if value is None else "ok"
        return Vital(code=code, value=value, unit=VITAL_UNITS[code], at_us=round(at_s * 1e6), quality=quality)  # type: ignore[arg-type]

    def _value(self, code: VitalCode, at_s: float) -> float | tuple[float, float, float] | None:
        rhythm = self._heart.rhythm
        slow = math.sin(2 * math.pi * at_s / 60)
        match code:
            case "HR":
                return None if rhythm is Rhythm.VF else self.rate(at_s, pulses=False)
            case "Pulse":
                return None if rhythm in _NO_PULSE else self.rate(at_s, pulses=True)
            case "SpO2":
                return None if rhythm in _NO_PULSE else round((90 if rhythm is Rhythm.VT else 97) + slow)
            case "Resp":
                return 0.0 if rhythm in _NO_PULSE else round(15 + slow)
            case "Temp":
                return round(36.8 + 0.1 * slow, 1)
            case _:
                return self._pressure(rhythm, slow)

    def _pressure(self, rhythm: Rhythm, slow: float) -> tuple[float, float, float] | None:
        if rhythm in _NO_PULSE:
            return None
        systolic = (82 if rhythm is Rhythm.VT else 126) + round(3 * slow)
        diastolic = (50 if rhythm is Rhythm.VT else 78) + round(2 * slow)
        return float(systolic), float(diastolic), float(round(diastolic + (systolic - diastolic) / 3))

    def rate(self, at_s: float, *, pulses: bool) -> float:
        """Beats per minute over the last eight seconds, from the beats that really were; 0 when there was none."""
        beats = self._heart.beats(at_s - WINDOW_S, at_s)
        times = [b.at_s for b in beats if not (pulses and b.ventricular and self._weak)]
        if len(times) < 2:
            return 0.0
        return float(round(60 * (len(times) - 1) / (times[-1] - times[0])))

    @property
    def _weak(self) -> bool:
        """Early beats of the ventricles eject too little to be felt."""
        return self._heart.rhythm in (Rhythm.PVC, Rhythm.BIGEMINY)
