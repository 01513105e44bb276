"""A patient and a monitor that do not exist: twelve leads and more, vital signs, and everything that goes wrong.

What it sends is marked SIMULATED; there is no setting that takes the mark away [W9].
"""

from media.sources.simulator.artefacts import Artefact, ArtefactKind
from media.sources.simulator.heart import Rhythm, Territory
from media.sources.simulator.monitor import Settings, SimulatedMonitor, Simulator

__all__ = ["Artefact", "ArtefactKind", "Rhythm", "Settings", "SimulatedMonitor", "Simulator", "Territory"]
