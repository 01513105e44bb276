"""What goes wrong between the patient and the record, each from one time to another.

Noise acts on electrodes, so leads stay consistent with each other. Lost contact and an amplifier at its
end are what a device knows and says; mains, wander, muscle, motion and swapped cables it does not know.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources.simulator.body import Electrodes

RAIL_MV: Final = 10.0


class ArtefactKind(StrEnum):
    """Kinds of trouble."""

    MAINS = "mains"
    WANDER = "wander"
    MUSCLE = "muscle"
    MOTION = "motion"
    OFF = "off"
    SATURATED = "saturated"
    REVERSED = "reversed"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One trouble."""

    kind: ArtefactKind
    where: str = ""
    """OFF: an electrode (RA, LA, LL, V1 ...). SATURATED: a lead. Others: ignored; REVERSED swaps the arms."""
    from_s: float = 0.0
    until_s: float = float("inf")

    def during(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """At which of these times it is there."""
        return (times_s >= self.from_s) & (times_s < self.until_s)


def disturb(
    electrodes: Electrodes, times_s: NDArray[np.float64], artefacts: tuple[Artefact, ...],
    rng: np.random.Generator, mains_hz: float,
) -> Electrodes:  # fmt: skip
    """Electrode potentials with the amplifier's own noise (5 uV) and every artefact of this time."""
    result = {}
    for number, (name, clean) in enumerate(electrodes.items()):
        noise = rng.normal(0, 0.0035, len(times_s))
        for artefact in artefacts:
            noise += artefact.during(times_s) * _noise(artefact.kind, times_s, number, rng, mains_hz)
        result[name] = clean + noise
    for artefact in artefacts:
        if artefact.kind is ArtefactKind.REVERSED:
            now = artefact.during(times_s)
            arms = result["RA"].copy(), result["LA"].copy()
            result["RA"], result["LA"] = np.where(now, arms[1], arms[0]), np.where(now, arms[0], arms[1])
    return result


def _noise(
    kind: ArtefactKind, times_s: NDArray[np.float64], electrode: int, rng: np.random.Generator, mains_hz: float
) -> NDArray[np.float64]:
    match kind:
        case ArtefactKind.MAINS:  # another amplitude and phase at each electrode, else the leads would cancel it
            return np.asarray(0.05 * (1 + 0.2 * electrode) * np.sin(2 * np.pi * mains_hz * times_s + electrode))
        case ArtefactKind.WANDER:
            slow = np.sin(2 * np.pi * 0.22 * times_s + electrode) + 0.6 * np.sin(
                2 * np.pi * 0.07 * times_s + 2 * electrode
            )
            return np.asarray(0.25 * slow)
        case ArtefactKind.MUSCLE:
            return rng.normal(0, 0.06, len(times_s))
        case ArtefactKind.MOTION:
            swing = np.sin(2 * np.pi * 1.3 * times_s + electrode) * np.sin(2 * np.pi * 0.31 * times_s + electrode) ** 3
            return np.asarray(1.2 * swing + rng.normal(0, 0.03, len(times_s)))
        case _:
            return np.zeros(len(times_s))


def no_contact(artefacts: tuple[Artefact, ...], times_s: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Electrodes without contact, and when."""
    off: dict[str, NDArray[np.bool_]] = {}
    for artefact in artefacts:
        if artefact.kind is ArtefactKind.OFF:
            before = off.get(artefact.where, np.zeros(len(times_s), np.bool_))
            off[artefact.where] = before | artefact.during(times_s)
    return off


def saturate(
    samples: NDArray[np.int16], reasons: NDArray[np.uint8], leads: tuple[str, ...],
    artefacts: tuple[Artefact, ...], times_s: NDArray[np.float64], lsb_nv: int,
) -> None:  # fmt: skip
    """Leads whose amplifier is at its end, in place: they read the rail and say so."""
    rail = round(RAIL_MV * 1_000_000 / lsb_nv)
    for artefact in artefacts:
        if artefact.kind is ArtefactKind.SATURATED and artefact.where in leads:
            row = leads.index(artefact.where)
            now = artefact.during(times_s) & (reasons[row] == 0)
            samples[row][now] = rail
            reasons[row][now] = InvalidReason.SATURATED
