"""What a consult is: the values that commands carry, events change and a snapshot shows.

Every class is frozen and refuses unknown fields, so a stored consult, a message
from a browser and a value in a test are checked by the same rules. Times are
integer milliseconds since 1970 (UTC); nothing here reads a clock.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from signaling.core.ids import (
    ConsultId,
    DataProducerId,
    ParticipantId,
    PatientId,
    ProducerId,
)

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
ShortText = Annotated[str, Field(max_length=200)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
TimeMs = Annotated[int, Field(ge=0, le=2**53 - 1)]
Counter = Annotated[int, Field(ge=0, le=2**53 - 1)]
ContextVersion = Annotated[int, Field(ge=0, le=2**32 - 1)]
TimeUs = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""Server time of a sample: a place on a trace. Within a session it agrees with the sample's index exactly."""
Microvolts = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
StreamId = Annotated[int, Field(ge=1, le=2**32 - 1)]
Lead = Annotated[str, Field(min_length=1, max_length=8)]
FhirId = Annotated[str, Field(pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
Reference = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{1,40}/[A-Za-z0-9\-.]{1,64}$")]
"""A resource as FHIR names it: ``Observation/k1``."""
ContentVersion = Annotated[str, Field(min_length=1, max_length=32)]
JsonObject = dict[str, Any]
"""An ORTC parameter object; the media plane checks it, signalling only carries it."""


class Value(BaseModel):
    """Base of everything on the wire: frozen, strict about fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, ser_json_bytes="base64")


class Role(StrEnum):
    """What a participant is in one consult; the column of the permission table."""

    DOCTOR = "doctor"
    NURSE = "nurse"
    GUEST = "guest"
    """A doctor who came by a one-time link."""
    SCREEN = "screen"
    """One wall display."""
    ROOM = "room"
    """A partner hospital's room: cameras and microphones without a person's account."""
    DEVICE = "device"
    """A source of waveforms at the bedside."""


class ScreenRole(StrEnum):
    """What a wall display shows."""

    RECORD = "record"
    VIDEO = "video"
    ECG = "ecg"


class Connection(StrEnum):
    """How the others see a participant (ARCHITECTURE section 8)."""

    CONNECTED = "connected"
    UNSTABLE = "unstable"
    """The socket stands, the media path gave no sign of life for 7 s."""
    RECONNECTING = "reconnecting"
    """The socket is gone and the participant may still come back as the same one."""


class Page(StrEnum):
    """The pages of the record pane, in the order they are shown."""

    SUMMARY = "summary"
    PROBLEMS = "problems"
    MEDICATIONS = "medications"
    ALLERGIES = "allergies"
    LABS = "labs"
    VITALS = "vitals"
    REPORTS = "reports"
    IMAGING = "imaging"
    DOCUMENTS = "documents"
    HISTORY = "history"


class Identifier(Value):
    """One of a patient's identifiers as people read it, e.g. MRN 00017."""

    label: ShortText
    value: ShortText


class PatientBanner(Value):
    """Who the patient is, on every screen, in this order (W18)."""

    id: PatientId
    name: ShortText
    name_latin: ShortText = ""
    sex: Literal["female", "male", "other", "unknown"]
    birth_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    identifiers: tuple[Identifier, Identifier]
    test: bool = False
    """A test patient: the only kind a simulated source may be bound to (W9)."""


class Context(Value):
    """The open patient. Each change raises ``version``; closing never restores an earlier one (H27)."""

    version: ContextVersion
    patient: PatientBanner
    opened_at_ms: TimeMs
    opened_by: ParticipantId
    first_version: ContextVersion | None = None
    """Under which this patient was opened: every version from it to ``version`` is this opening's, and no other is.
    None: only ``version`` is known to be. [AN2]"""


class AnchorType(StrEnum):
    """What may be open besides the patient, one of each: the resource that a piece of work is about. [AN1]"""

    ENCOUNTER = "Encounter"
    IMAGING_STUDY = "ImagingStudy"
    DIAGNOSTIC_REPORT = "DiagnosticReport"


ContextType = Literal["Patient", "Encounter", "ImagingStudy", "DiagnosticReport"]


class Request(Value):
    """What an outside program asked for, as it named it. [PR1]"""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    """Chosen by the program; it hears of the event by this id (H14)."""
    program: ShortText
    event: ShortText
    """FHIRcast's name of what it asked for."""


class Opened(Value):
    """The most recent opening of one type of context (H6)."""

    revision: Counter
    at_ms: TimeMs
    request: Request | None = None


class Anchor(Value):
    """An Encounter, ImagingStudy or DiagnosticReport of the open patient. [AN1]"""

    resource_type: AnchorType
    id: FhirId
    label: ShortText = ""
    resource: JsonObject | None = None
    """As the outside program that opened it describes it; None: it is in the record."""
    opened_at_ms: TimeMs
    opened_by: ParticipantId


class SharedContent(Value):
    """What is being put together under the open report; gone when the report is closed. [AN5] (H25)"""

    report: FhirId
    version: ContentVersion
    """Never the same twice in a consult."""
    resources: dict[str, JsonObject] = {}
    """By reference, e.g. ``Observation/k1``."""
    selected: tuple[Reference, ...] = ()
    """What everyone is asked to look at."""


class ProgramTrouble(Value):
    """An outside program that does not show what is open: NOT IN SYNC. [PR3] (W19, H17-H19)"""

    id: Id
    """Of its subscription."""
    key: Id
    """The same for the same program of the same person, should it come back by another subscription."""
    name: ShortText
    reason: Literal["refused", "failed", "silent", "lost", "slow"]
    event_id: Annotated[str, Field(max_length=128)] = ""
    """Of the event that it did not follow, as the programs know it (H17)."""
    event: ShortText = ""
    context_version: ContextVersion
    at_ms: TimeMs


class View(Value):
    """Where the lead is in the record; followers show the same."""

    page: Page = Page.SUMMARY
    item: Annotated[str, Field(max_length=160)] = ""
    """The opened entry of a page (FHIR id or lab code) and the place in it, as web_client/src/record/place.ts has it.

    Empty for the list. Page 3 of a document, an enlarged part of a picture and its grey window are part of the view:
    followers turn with the lead, and a pointer belongs to exactly that picture.
    """


Units = Annotated[int, Field(ge=0, le=10_000)]
"""Ten-thousandths of a page's width."""
UnitsDown = Annotated[int, Field(ge=0, le=1_000_000)]
"""The same measure down the page: a page may be a hundred times as long as it is wide."""
Reason = Annotated[str, Field(min_length=3, max_length=200)]


class Area(Value):
    """A part of a page, in ten-thousandths of the page's width both across and down."""

    x: Units
    y: UnitsDown
    width: Units
    height: UnitsDown


class PageShape(Value):
    """How a page was laid out, so that another screen can lay it out the same and a mark meets what it was made on."""

    content: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Of what was on the page; another key is another content, whatever its place."""
    width: Annotated[int, Field(ge=100, le=8_192)]
    height: Annotated[int, Field(ge=1, le=819_200)]
    """CSS pixels."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z]{2,4})?$")]


Target = Annotated[str, Field(max_length=160)]
"""Name of an element of a page that every screen gives it, however it is laid out there; empty: an area only."""


class Highlight(Value):
    """Somebody asks everyone to look here; one for each participant. [SH1]"""

    by: ParticipantId
    context_version: ContextVersion
    view: View
    shape: PageShape
    target: Target = ""
    area: Area
    at_ms: TimeMs


class PageFreeze(Value):
    """The page stands for all as its author sees it, so that strokes meet what they were drawn on. [SH3]"""

    id: Id
    context_version: ContextVersion
    view: View
    shape: PageShape
    by: ParticipantId
    at_ms: TimeMs


Stroke = Annotated[tuple[Annotated[int, Field(ge=0, le=1_000_000)], ...], Field(min_length=4, max_length=512)]
"""One line of the pen: x, y, x, y, ... in ten-thousandths of the page's width."""


class Note(Value):
    """What somebody drew on a frozen page: part of the patient's record. [SH4] (C23)"""

    id: FhirId
    """Of its DocumentReference."""
    patient: PatientId
    context_version: ContextVersion
    view: View
    shape: PageShape
    strokes: Annotated[tuple[Stroke, ...], Field(min_length=1, max_length=64)]
    text: ShortText = ""
    by: ParticipantId
    by_name: ShortText
    by_hospital: ShortText = ""
    at_ms: TimeMs


class IdentityPart(StrEnum):
    """What of the banner was read aloud."""

    NAME = "name"
    BIRTH_DATE = "birth_date"
    FIRST_IDENTIFIER = "first_identifier"
    SECOND_IDENTIFIER = "second_identifier"


class IdentityTick(Value):
    """One side has heard the patient's identifiers read aloud and compared them. [IC2] (W23)"""

    by: ParticipantId
    at_ms: TimeMs
    heard: tuple[IdentityPart, ...]


class IdentitySkip(Value):
    """Somebody decided that this could not wait. [IC4]"""

    by: ParticipantId
    at_ms: TimeMs
    reason: Reason


class IdentityCheck(Value):
    """Whether both sides have said aloud who this is. One for each patient that is opened. [IC1] (W23)"""

    patient: PatientId
    context_version: ContextVersion
    hub: IdentityTick | None = None
    partner: IdentityTick | None = None
    skipped: IdentitySkip | None = None


class Participant(Value):
    """A person, display or device admitted to the consult; survives reconnects."""

    id: ParticipantId
    role: Role
    name: ShortText
    hospital: ShortText = ""
    screen: ScreenRole | None = None
    screen_number: Annotated[int, Field(ge=1, le=9)] | None = None
    connection: Connection = Connection.CONNECTED
    joined_at_ms: TimeMs
    context_seen: ContextVersion = 0
    """The context version this participant has confirmed to show; behind ``context.version`` is out of sync (W19)."""
    simulated: bool = False
    hub: bool = False
    """Of the hub's own hospital; everyone else is the partner's side. [IC2]"""


class MediaSource(StrEnum):
    """What a Producer carries."""

    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN = "screen"
    SCREEN_AUDIO = "screen_audio"


class ProducerInfo(Value):
    """One audio or video source that may be consumed."""

    id: ProducerId
    participant: ParticipantId
    kind: Literal["audio", "video"]
    source: MediaSource
    label: ShortText = ""
    paused: bool = False


class WaveformStream(Value):
    """Stream descriptor of a waveform (WAVEFORM.md section 4)."""

    stream_id: StreamId
    leads: Annotated[tuple[Lead, ...], Field(min_length=1, max_length=16)]
    """Lead names in bit order of the frame's lead mask; bits 0-5 are I II III aVR aVL aVF."""
    sample_rate_mhz: Annotated[int, Field(ge=1_000, le=10_000_000)]
    """Samples per second and lead, times 1000."""
    lsb_nv: Annotated[int, Field(ge=1, le=65_535)]
    """Nanovolts per step."""
    device: ShortText
    filter: ShortText = ""
    """Bandwidth text of the source (W29); empty means unknown and is shown as such."""
    simulated: bool
    patient: PatientId
    """The patient the device is bound to (W20)."""


class VitalsStream(Value):
    """Descriptor of a source of vital signs; what it sends is section 6 of WAVEFORM_WIRE.md."""

    device: ShortText
    simulated: bool
    patient: PatientId
    """The patient the device is bound to (W20)."""


class DataProducerInfo(Value):
    """One source of data-channel messages; ``waveform`` is set on an ECG, ``vitals`` on vital signs."""

    id: DataProducerId
    participant: ParticipantId
    label: ShortText
    protocol: ShortText = ""
    waveform: WaveformStream | None = None
    vitals: VitalsStream | None = None


class Binding(Value):
    """A person at the bedside has said whose signals a device sends. [BI1] (W20)"""

    device: ParticipantId
    patient: PatientId
    context_version: ContextVersion
    """The context it was made in and ends with. [BI5]"""
    identifiers: tuple[Identifier, Identifier]
    """The patient's two identifiers as the banner had them; what was typed or scanned agreed with both."""
    bound_by: ParticipantId
    bound_at_ms: TimeMs
    until_ms: TimeMs


class Mismatch(Value):
    """A bound device said itself that it belongs to somebody else: shown in red with both until bound anew. (W22)"""

    device: ParticipantId
    patient: PatientId
    """The patient it was bound to."""
    identifiers: tuple[Identifier, Identifier]
    """That patient's identifiers."""
    reported: ShortText
    """The patient id that the device gave."""
    context_version: ContextVersion
    at_ms: TimeMs


class UnboundReason(StrEnum):
    """Why a binding ended."""

    BY_PERSON = "by_person"
    EXPIRED = "expired"
    CONSULT_ENDED = "consult_ended"
    DEVICE_LEFT = "device_left"
    CONTEXT_CHANGED = "context_changed"
    MISMATCH = "mismatch"
    DISCHARGED = "discharged"
    TRANSFERRED = "transferred"


class EcgFreeze(Value):
    """Everyone's trace stands, its right edge at this place. [EC2]"""

    stream_id: StreamId
    at_us: TimeUs
    context_version: ContextVersion
    by: ParticipantId
    at_ms: TimeMs
    """When it was asked for."""


class EcgMarkDraft(Value):
    """A mark as its author draws it. Places are times of real samples, never pixels. [EC3] (W32)"""

    id: Id
    stream_id: StreamId
    context_version: ContextVersion
    kind: Literal["caliper", "qt", "marker", "note"]
    lead: Lead
    from_us: TimeUs
    from_uv: Microvolts
    to_us: TimeUs | None = None
    """The other end; a caliper and a QT have one."""
    to_uv: Microvolts | None = None
    text: ShortText = ""

    @model_validator(mode="after")
    def _has_its_ends(self) -> "EcgMarkDraft":
        if self.kind in ("caliper", "qt") and (self.to_us is None or self.to_uv is None):
            raise ValueError("a caliper and a QT have two ends")
        return self


class EcgMark(EcgMarkDraft):
    """A mark that all see."""

    by: ParticipantId
    at_ms: TimeMs


class EcgSettings(Value):
    """How a trace was shown; part of a snapshot, so that a reprint looks the same. (W26, W29, W33, W45)"""

    speed: Annotated[float, Field(gt=0, le=400)]
    """Millimetres per second."""
    gain: Annotated[float, Field(gt=0, le=400)]
    """Millimetres per millivolt."""
    layout: ShortText
    order: ShortText
    filter: ShortText
    """Of the view; the source's own is in the stream's descriptor."""
    calibration: ShortText
    """Id of the screen's calibration; empty: not to scale. (W27)"""
    software: ShortText


class EcgState(StrEnum):
    """How old what a viewer sees is (W12)."""

    LIVE = "LIVE"
    DELAYED = "DELAYED"
    STALE = "STALE"
    LOST = "LOST"


class EcgSnapshot(Value):
    """A strip of 10 s before and 10 s after a moment, stored with the record. [EC5] (W33)"""

    id: Id
    stream_id: StreamId
    context_version: ContextVersion
    at_us: TimeUs
    """The moment."""
    from_us: TimeUs
    to_us: TimeUs
    """What is stored, both ends of real samples."""
    by: ParticipantId
    at_ms: TimeMs
    """When it was asked for."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    gaps: Counter
    lost: Counter
    """Samples per lead that never came, within the strip."""


class EcgStateReport(Value):
    """What one viewer's trace is now, as it says itself. [EC6] (W17)"""

    participant: ParticipantId
    stream_id: StreamId
    context_version: ContextVersion
    state: EcgState
    age_ms: TimeMs | None = None
    """Of the newest drawn sample; None: none was drawn."""
    at_ms: TimeMs


class ConsultStatus(StrEnum):
    """Life of a consult. ``ended`` is final."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    ENDED = "ended"


class Consult(Value):
    """A snapshot: the whole shared state at ``revision``; each event adds one to it."""

    id: ConsultId
    revision: Counter = 0
    title: ShortText
    status: ConsultStatus = ConsultStatus.OPEN
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    participants: dict[ParticipantId, Participant] = {}
    context: Context | None = None
    context_version: ContextVersion = 0
    """The last version given out; keeps rising when a context is closed."""
    context_changed_at_ms: TimeMs = 0
    """When patient or anchor last changed; what is older than that comes too late (H21)."""
    anchors: dict[str, Anchor] = {}
    """By resource type; of the open patient. [AN1]"""
    current: ContextType | None = None
    """What was opened last and not closed since; closing it makes nothing else current (H27)."""
    opens: dict[str, Opened] = {}
    """By type, the patient included: what a program that comes later is told (H6)."""
    content: SharedContent | None = None
    """Of the open DiagnosticReport. [AN5]"""
    programs: dict[str, ProgramTrouble] = {}
    """Outside programs that are not in sync. [PR3]"""
    lead: ParticipantId | None = None
    view: View = View()
    media_epoch: Counter = 0
    """Raised when the media worker was replaced: every Transport of an older epoch is gone."""
    producers: dict[ProducerId, ProducerInfo] = {}
    data_producers: dict[DataProducerId, DataProducerInfo] = {}
    bindings: dict[ParticipantId, Binding] = {}
    """By device; each belongs to the open context. (W20)"""
    reported: dict[ParticipantId, ShortText] = {}
    """The patient id that each device last gave of its own accord, where it gave one. (W22)"""
    mismatches: dict[ParticipantId, Mismatch] = {}
    """By device; each belongs to the open context. (W22)"""
    ecg_freeze: EcgFreeze | None = None
    ecg_marks: dict[str, EcgMark] = {}
    ecg_snapshots: dict[str, EcgSnapshot] = {}
    """Of the open context; the record has them all."""
    ecg_states: dict[ParticipantId, EcgStateReport] = {}
    """By viewer; of the open context. (W17)"""
    highlights: dict[ParticipantId, Highlight] = {}
    """By author; of the shown page. [SH1]"""
    page_freeze: PageFreeze | None = None
    identity_check: IdentityCheck | None = None
    """Of the open patient. [IC1] (W23)"""
