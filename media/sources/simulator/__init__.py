"""A patient and a monitor that do not exist: twelve leads and more, vital signs, and everything that goes wrong.

What it sends is marked SIMULATED; there is no setting that takes the mark away [W9].
"""

from media.sources.simulator.artefacts import Artefact, ArtefactKind
from media.sources.simulator.heart import Heart, Rhythm, Territory
from media.sources.simulator.monitor import DEVICE, Settings, SimulatedMonitor, Simulator
from media.sources.simulator.vitals import VitalSigns

__all__ = [
    "DEVICE",
    "Artefact",
    "ArtefactKind",
    "Heart",
    "Rhythm",
    "Settings",
    "SimulatedMonitor",
    "Simulator",
    "Territory",
    "VitalSigns",
]
