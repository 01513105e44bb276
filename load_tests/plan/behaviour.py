"""What a simulated participant does in its consult: the behaviours that scenarios name.

A behaviour says what is sent, what is taken and what is clicked, and how often; what that means on the wire is
``load_tests.session``. A scenario may change any field of one for one of its populations.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Pixels = Annotated[int, Field(ge=0, le=16_384)]


class Layer(BaseModel):
    """One picture size that a camera sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rid: str
    width: int
    height: int
    bitrate_bps: int
    frames_per_s: int = 30


CAMERAS: Final[dict[str, tuple[Layer, ...]]] = {
    # What mediasoup-client asks of Chromium for a 1280x720 camera: halves of the width, and WebRTC's own bitrates.
    "720p": (
        Layer(rid="r0", width=320, height=180, bitrate_bps=150_000),
        Layer(rid="r1", width=640, height=360, bitrate_bps=500_000),
        Layer(rid="r2", width=1280, height=720, bitrate_bps=1_700_000),
    ),
    "phone": (
        Layer(rid="r0", width=320, height=180, bitrate_bps=120_000, frames_per_s=24),
        Layer(rid="r1", width=640, height=360, bitrate_bps=600_000, frames_per_s=24),
    ),
    "single": (Layer(rid="", width=640, height=480, bitrate_bps=800_000, frames_per_s=25),),
}
"""Simulcast layers by camera, the smallest first."""


class Behaviour(BaseModel):
    """One kind of participant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    who: Literal["doctor", "guest", "room", "device", "screen", "hospital"]
    """How it comes in: password, one-time link, device secret, a paired screen; a system inside a hospital does not
    come in, its messages do, through the lock."""
    partner: bool = False
    """Of the partner hospital, where the patient is."""
    screen: Literal[1, 2, 3, 4, 5, 6] | None = None
    """Number of the wall screen: record, video, ECG; 4 to 6 the same in a second room."""
    camera: Literal["", "720p", "phone", "single"] = ""
    microphone: bool = False
    ecg: bool = False
    """Sends twelve leads at 500 Hz, ten messages a second."""
    media: bool = True
    """False: signalling and HTTP only."""
    hears: bool = False
    sees: bool = False
    view: tuple[Pixels, Pixels] = (640, 360)
    """How large it shows each picture, device pixels."""
    rank: Literal["main", "tile"] = "tile"
    watches_ecg: bool = False
    leads: bool = False
    """The first of its consult opens the patient and takes the lead."""
    turn_every_s: Seconds = 0
    """The one who leads turns a page this often; 0: never."""
    point_hz: Annotated[float, Field(ge=0, le=50)] = 0
    """The one who leads moves the pointer this often."""
    note_every_s: Seconds = 0
    """The one who leads freezes the page, draws on it and keeps the drawing with the record; 0: never."""
    page_every_s: Seconds = 0
    """Reads a page of the record over HTTP this often; 0: never."""
    lock_read_every_s: Seconds = 0
    """Asks the patient's own hospital through the lock this often; 0: never."""
    messages_per_s: Annotated[float, Field(ge=0, le=200)] = 0
    """HL7 v2 messages that a hospital's system sends to its gateway."""


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "doctor": Behaviour(who="doctor", camera="720p", microphone=True, hears=True, sees=True, watches_ecg=True,
                        leads=True, turn_every_s=15, page_every_s=10),
    "partner_doctor": Behaviour(who="doctor", partner=True, camera="720p", microphone=True, hears=True, sees=True,
                                watches_ecg=True, page_every_s=10),
    "audio_doctor": Behaviour(who="doctor", microphone=True, hears=True, sees=True, watches_ecg=True, leads=True,
                              turn_every_s=15, page_every_s=10),
    "guest": Behaviour(who="guest", camera="720p", microphone=True, hears=True, sees=True, watches_ecg=True),
    "wall_record": Behaviour(who="screen", screen=1, page_every_s=10),
    "wall_video": Behaviour(who="screen", screen=2, hears=True, sees=True, view=(1280, 720), rank="main"),
    "wall_ecg": Behaviour(who="screen", screen=3, watches_ecg=True),
    "phone_patient": Behaviour(who="guest", partner=True, camera="phone", microphone=True, hears=True, sees=True,
                               view=(360, 200)),
    "room_camera": Behaviour(who="room", partner=True, camera="720p", microphone=True, hears=True, sees=True),
    "bedside_monitor": Behaviour(who="device", partner=True, ecg=True),
    "listener": Behaviour(who="doctor", media=False),
    "lock_reader": Behaviour(who="doctor", media=False, leads=True, lock_read_every_s=2),
    "hospital_system": Behaviour(who="hospital", partner=True, media=False, messages_per_s=2),
}  # fmt: skip
