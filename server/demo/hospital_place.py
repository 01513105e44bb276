"""Where the simulated hospital's gateway is, known to the demo without loading what runs in it."""

from pathlib import Path

from server.gateway.config import Folder
from server.gateway.identity import load_identity

FOLDER = "partner-gateway"
"""In the demo's data folder."""


def needs_code(folder: Path, origin: str) -> bool:
    """Whether the gateway has to be enrolled (again): at the first start, and when the demo got another port."""
    place = Folder(folder)
    return not place.identity.exists() or load_identity(place).origin != origin
