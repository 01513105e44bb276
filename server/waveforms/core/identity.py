"""Whose trace an export or a print is, as the banner had it (W18)."""

from pydantic import BaseModel, ConfigDict

from server.waveforms.core.stream import StreamInfo
from signaling.core.model import PatientBanner


class ExportIdentity(BaseModel):
    """What goes with every copy that leaves the system."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    banner: PatientBanner
    institution: str
    made_at_us: int
    software: str


class ExportJob(BaseModel):
    """One export, as it is handed to the process that makes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    info: StreamInfo
    identity: ExportIdentity
    folder: str
    """The blob folder."""
    from_us: int
    to_us: int
    vitals: str = ""
    """FHIR bundle as JSON, for the archive."""
