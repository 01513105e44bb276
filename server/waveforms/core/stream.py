"""What the server knows of a waveform stream beyond its frames."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from signaling.core.model import WaveformStream

StreamKind = Literal["live", "import"]


class StreamInfo(BaseModel):
    """One archived stream as lists and exports name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: str
    """Id of this archive, random; also the name of its folder."""
    consult: str
    stream_id: Annotated[int, Field(ge=1, le=2**32 - 1)]
    kind: StreamKind
    title: str
    device: str
    leads: tuple[str, ...]
    sample_rate_mhz: int
    lsb_nv: int
    filter: str
    simulated: bool
    patient: str

    @property
    def wave(self) -> tuple[object, ...]:
        """What may not change while a stream goes on."""
        return (self.leads, self.sample_rate_mhz, self.lsb_nv, self.filter, self.simulated, self.patient, self.device)


def live_info(archive: str, consult: str, stream: WaveformStream) -> StreamInfo:
    """A stream that a device has announced."""
    return StreamInfo(
        archive=archive,
        consult=consult,
        stream_id=stream.stream_id,
        kind="live",
        title=stream.device,
        device=stream.device,
        leads=tuple(stream.leads),
        sample_rate_mhz=stream.sample_rate_mhz,
        lsb_nv=stream.lsb_nv,
        filter=stream.filter,
        simulated=stream.simulated,
        patient=stream.patient,
    )
