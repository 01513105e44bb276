"""Every message of the signalling wire: commands, their results, events and signals.

A *command* asks and is acknowledged with its result or a refusal. An *event*
happened, was committed, raises the revision by one and is sent to everyone in
the consult. A *signal* is worth nothing a second later (pointer, scroll,
loudness): it has no revision, is never stored and may be dropped.

PROTOCOL.md gives the rules; the TypeScript types are generated from these
classes and the test command fails when they drift apart.

One file on purpose: it is the whole vocabulary of the wire, and is read as such beside PROTOCOL.md.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from signaling.core.ids import (
    ConsumerId,
    DataConsumerId,
    DataProducerId,
    ParticipantId,
    PatientId,
    ProducerId,
    TransportId,
)
from signaling.core.model import (
    Anchor,
    AnchorType,
    Area,
    Binding,
    Connection,
    Consult,
    ContentVersion,
    Context,
    ContextType,
    ContextVersion,
    Counter,
    DataProducerInfo,
    EcgFreeze,
    EcgMark,
    EcgMarkDraft,
    EcgSettings,
    EcgSnapshot,
    EcgState,
    EcgStateReport,
    FhirId,
    Fraction,
    Highlight,
    Id,
    IdentityPart,
    IdentitySkip,
    IdentityTick,
    JsonObject,
    Lead,
    MediaSource,
    Microvolts,
    Mismatch,
    Note,
    PageFreeze,
    PageShape,
    Participant,
    ProducerInfo,
    ProgramTrouble,
    Reason,
    Reference,
    Request,
    ShortText,
    StreamId,
    Stroke,
    Target,
    TimeMs,
    TimeUs,
    UnboundReason,
    Value,
    View,
    VitalsStream,
    WaveformStream,
)

PROTOCOL_VERSION = 1

Pixels = Annotated[int, Field(ge=0, le=16_384)]
Minutes = Annotated[int, Field(ge=1, le=1440)]
StrokeNumber = Annotated[int, Field(ge=0, le=63)]
StrokeCount = Annotated[int, Field(ge=0, le=64)]
InkPoints = Annotated[tuple[Annotated[int, Field(ge=0, le=1_000_000)], ...], Field(max_length=512)]
"""As of a note's stroke; empty when there is none any more."""
Confirmed = Annotated[str, Field(min_length=1, max_length=200)]

# ---------------------------------------------------------------- commands


class Command(Value):
    """Asked by one participant; answered with the result class named in ``RESULTS``."""


class Join(Command):
    """Enter the consult. Must be the first command of a session. [CO1]"""

    type: Literal["join"] = "join"


class Sync(Command):
    """Ask for what happened after ``since``. [CO4]"""

    type: Literal["sync"] = "sync"
    since: Counter


class Leave(Command):
    """Leave for good; the participant is removed at once."""

    type: Literal["leave"] = "leave"


class EndConsult(Command):
    """End the consult for everyone."""

    type: Literal["end_consult"] = "end_consult"


class OpenContext(Command):
    """Open a patient of this consult on every screen."""

    type: Literal["open_context"] = "open_context"
    patient: PatientId


class CloseContext(Command):
    """Close the open patient; nothing is open afterwards (H27)."""

    type: Literal["close_context"] = "close_context"


class ConfirmContext(Command):
    """This participant's clinical views show ``version`` and nothing older (W19)."""

    type: Literal["confirm_context"] = "confirm_context"
    version: ContextVersion


class OpenAnchor(Command):
    """Open an Encounter, ImagingStudy or DiagnosticReport of the open patient. [AN1]"""

    type: Literal["open_anchor"] = "open_anchor"
    context_version: ContextVersion
    resource_type: AnchorType
    id: FhirId


class CloseAnchor(Command):
    """Close it; the patient stays open. [AN3]"""

    type: Literal["close_anchor"] = "close_anchor"
    context_version: ContextVersion
    resource_type: AnchorType


class ShareContent(Command):
    """Change what is put together under the open report, all of it or nothing. [AN5] (H25)"""

    type: Literal["share_content"] = "share_content"
    report: FhirId
    version: ContentVersion
    """Of the content that this was made for; another one is `content_changed`."""
    bundle: JsonObject
    """A FHIR Bundle of type transaction with PUT and DELETE only."""


class SelectContent(Command):
    """Ask everyone to look at some of the shared content; none: at nothing in particular. [AN6]"""

    type: Literal["select_content"] = "select_content"
    context_version: ContextVersion
    report: FhirId
    selected: Annotated[tuple[Reference, ...], Field(max_length=64)]


class DismissProgram(Command):
    """Somebody looked at an outside program that is not in sync: take it off the list. [PR4]"""

    type: Literal["dismiss_program"] = "dismiss_program"
    program: Id


class TurnPage(Command):
    """The lead shows another page or opens an entry of it."""

    type: Literal["turn_page"] = "turn_page"
    context_version: ContextVersion
    view: View


class TakeLead(Command):
    """Become the one whose view the others follow."""

    type: Literal["take_lead"] = "take_lead"


class HandLead(Command):
    """Give the lead to another participant."""

    type: Literal["hand_lead"] = "hand_lead"
    to: ParticipantId


class Scroll(Command):
    """The lead scrolled; passed on as a signal."""

    type: Literal["scroll"] = "scroll"
    context_version: ContextVersion
    view: View
    y: Fraction
    """Top of the viewport as a fraction of the scrollable height."""


class Point(Command):
    """The lead points at something; passed on as a signal."""

    type: Literal["point"] = "point"
    context_version: ContextVersion
    view: View
    x: Fraction
    y: Fraction
    """Fractions of the page content's width and height, not of the window."""
    visible: bool


class BindDevice(Command):
    """Say at the bedside whose signals a device sends, with two identifiers read there. [BI1] (W20)"""

    type: Literal["bind_device"] = "bind_device"
    device: ParticipantId
    patient: PatientId
    context_version: ContextVersion
    confirmed: tuple[Confirmed, Confirmed]
    """Both identifiers as typed or scanned, in either order; compared without width, case and spaces."""
    minutes: Minutes = 240


class UnbindDevice(Command):
    """End a binding, and with it what the device sends. [BI4]"""

    type: Literal["unbind_device"] = "unbind_device"
    device: ParticipantId


class ReportPatient(Command):
    """A device says which patient it is set to itself; empty when to none. [BI6] (W22)"""

    type: Literal["report_patient"] = "report_patient"
    reported: ShortText


class FreezeEcg(Command):
    """Let everyone's trace stand with its right edge at this place. [EC2]"""

    type: Literal["freeze_ecg"] = "freeze_ecg"
    stream_id: StreamId
    context_version: ContextVersion
    at_us: TimeUs


class ReleaseEcg(Command):
    """Let everyone's trace run again. [EC2]"""

    type: Literal["release_ecg"] = "release_ecg"


class PutEcgMark(Command):
    """Draw a mark for all, or change one's own of the same id. [EC3]"""

    type: Literal["put_ecg_mark"] = "put_ecg_mark"
    mark: EcgMarkDraft


class RemoveEcgMark(Command):
    """Take a mark away for all. [EC3]"""

    type: Literal["remove_ecg_mark"] = "remove_ecg_mark"
    id: Id


class PointEcg(Command):
    """Point at a place of a trace; passed on as a signal. [EC4]"""

    type: Literal["point_ecg"] = "point_ecg"
    stream_id: StreamId
    context_version: ContextVersion
    lead: Lead
    at_us: TimeUs
    uv: Microvolts
    visible: bool = True


class TakeEcgSnapshot(Command):
    """Keep 10 s before and 10 s after a moment with the record. [EC5] (W33)"""

    type: Literal["take_ecg_snapshot"] = "take_ecg_snapshot"
    stream_id: StreamId
    context_version: ContextVersion
    at_us: TimeUs
    settings: EcgSettings
    age_ms: TimeMs | None
    """Of the newest drawn sample when it was asked for; None: none was drawn."""
    state: EcgState


class ReportEcgState(Command):
    """This viewer's trace changed its state. [EC6] (W17)"""

    type: Literal["report_ecg_state"] = "report_ecg_state"
    stream_id: StreamId
    context_version: ContextVersion
    state: EcgState
    age_ms: TimeMs | None = None


class ShowHighlight(Command):
    """Ask everyone to look at a part of the shown page; takes the place of one's earlier one. [SH1]"""

    type: Literal["highlight"] = "highlight"
    context_version: ContextVersion
    view: View
    shape: PageShape
    target: Target = ""
    area: Area


class ClearHighlight(Command):
    """Take one's own highlight away. [SH1]"""

    type: Literal["clear_highlight"] = "clear_highlight"


class FreezePage(Command):
    """Let the shown page stand for all as it is here, to draw on it. [SH3]"""

    type: Literal["freeze_page"] = "freeze_page"
    id: Id
    context_version: ContextVersion
    view: View
    shape: PageShape


class ReleasePage(Command):
    """Let it go. [SH3]"""

    type: Literal["release_page"] = "release_page"


class PutNote(Command):
    """Keep what was drawn on the frozen page with the record. [SH4]"""

    type: Literal["put_note"] = "put_note"
    id: Id
    """Chosen by the author; the same id again is the same note."""
    freeze: Id
    context_version: ContextVersion
    strokes: Annotated[tuple[Stroke, ...], Field(min_length=1, max_length=64)]
    text: ShortText = ""


class Ink(Command):
    """One stroke as it is under the pen now, for the others to see; passed on as a signal. [SH7]"""

    type: Literal["ink"] = "ink"
    freeze: Id
    context_version: ContextVersion
    stroke: StrokeNumber
    of: StrokeCount
    """Strokes that there are; later ones were taken back."""
    points: InkPoints


class MarkNoteInError(Command):
    """A note was a mistake: it stays in the record and says so. [SH6] (C23)"""

    type: Literal["mark_note_in_error"] = "mark_note_in_error"
    note: FhirId
    context_version: ContextVersion
    reason: Reason


class ShowView(Command):
    """What this participant's visible page shows now; None: nothing of the record. [VW1] (G5, C21)"""

    type: Literal["show_view"] = "show_view"
    context_version: ContextVersion
    view: View | None


class TickIdentity(Command):
    """This side heard two identifiers read aloud, and they are the banner's. [IC2] (W23)"""

    type: Literal["tick_identity"] = "tick_identity"
    context_version: ContextVersion
    heard: Annotated[tuple[IdentityPart, ...], Field(min_length=2, max_length=4)]


class SkipIdentityCheck(Command):
    """This cannot wait for the identity check. [IC4]"""

    type: Literal["skip_identity_check"] = "skip_identity_check"
    context_version: ContextVersion
    reason: Reason


class ReportWrongPatient(Command):
    """What was read aloud is not this patient: close the record on every screen. [IC3] (W23)"""

    type: Literal["report_wrong_patient"] = "report_wrong_patient"
    context_version: ContextVersion
    reason: Reason


class CreateTransport(Command):
    """Ask for one WebRTC transport; a participant has at most one of each direction."""

    type: Literal["create_transport"] = "create_transport"
    direction: Literal["send", "recv"]


class ConnectTransport(Command):
    """Give the client's DTLS fingerprint and role."""

    type: Literal["connect_transport"] = "connect_transport"
    transport: TransportId
    dtls_parameters: JsonObject


class RestartIce(Command):
    """Ask for fresh ICE credentials; the old ones stay valid until the new are nominated."""

    type: Literal["restart_ice"] = "restart_ice"
    transport: TransportId


class Produce(Command):
    """Send audio or video."""

    type: Literal["produce"] = "produce"
    transport: TransportId
    kind: Literal["audio", "video"]
    rtp_parameters: JsonObject
    source: MediaSource
    label: ShortText = ""
    paused: bool = False


class ProducerCommand(Command):
    """Names one Producer of the asking participant."""

    producer: ProducerId


class PauseProducer(ProducerCommand):
    """Stop forwarding a Producer (mute, camera off)."""

    type: Literal["pause_producer"] = "pause_producer"


class ResumeProducer(ProducerCommand):
    """Forward it again."""

    type: Literal["resume_producer"] = "resume_producer"


class CloseProducer(ProducerCommand):
    """Take a Producer away."""

    type: Literal["close_producer"] = "close_producer"


class Consume(Command):
    """Receive a Producer; the Consumer starts paused."""

    type: Literal["consume"] = "consume"
    transport: TransportId
    producer: ProducerId
    rtp_capabilities: JsonObject


class ConsumerCommand(Command):
    """Names one Consumer of the asking participant."""

    consumer: ConsumerId


class PauseConsumer(ConsumerCommand):
    """Stop receiving (tile out of sight)."""

    type: Literal["pause_consumer"] = "pause_consumer"


class ResumeConsumer(ConsumerCommand):
    """Receive; a key frame is asked for."""

    type: Literal["resume_consumer"] = "resume_consumer"


class ViewConsumer(ConsumerCommand):
    """How large this participant's page shows a video now: steers its layer and its share of a thin line. [ME12]"""

    type: Literal["view_consumer"] = "view_consumer"
    width: Pixels
    height: Pixels
    """Device pixels of the area; 0 by 0 is out of sight and gets nothing."""
    rank: Literal["main", "tile"] = "tile"
    """``main``: pinned, large or on a wall; served before tiles."""


class CloseConsumer(ConsumerCommand):
    """Stop for good."""

    type: Literal["close_consumer"] = "close_consumer"


class ProduceData(Command):
    """Send data-channel messages. Label ``ecg`` needs ``waveform``, ``vitals`` needs ``vitals``. [ME6]"""

    type: Literal["produce_data"] = "produce_data"
    transport: TransportId
    label: ShortText
    protocol: ShortText = ""
    sctp_stream_parameters: JsonObject
    waveform: WaveformStream | None = None
    vitals: VitalsStream | None = None


class CloseDataProducer(Command):
    """Take a DataProducer away."""

    type: Literal["close_data_producer"] = "close_data_producer"
    data_producer: DataProducerId


class ConsumeData(Command):
    """Receive a DataProducer; ``ctl`` names the relay's own answers. Starts paused."""

    type: Literal["consume_data"] = "consume_data"
    transport: TransportId
    data_producer: DataProducerId


class ResumeDataConsumer(Command):
    """The channel is open at this end: messages may flow (ORTC.md trap 22)."""

    type: Literal["resume_data_consumer"] = "resume_data_consumer"
    data_consumer: DataConsumerId


class CloseDataConsumer(Command):
    """Stop for good."""

    type: Literal["close_data_consumer"] = "close_data_consumer"
    data_consumer: DataConsumerId


MediaCommand = Annotated[
    CreateTransport
    | ConnectTransport
    | RestartIce
    | Produce
    | PauseProducer
    | ResumeProducer
    | CloseProducer
    | Consume
    | PauseConsumer
    | ResumeConsumer
    | ViewConsumer
    | CloseConsumer
    | ProduceData
    | CloseDataProducer
    | ConsumeData
    | ResumeDataConsumer
    | CloseDataConsumer,
    Field(discriminator="type"),
]

AnyCommand = Annotated[
    Join
    | Sync
    | Leave
    | EndConsult
    | OpenContext
    | CloseContext
    | ConfirmContext
    | OpenAnchor
    | CloseAnchor
    | ShareContent
    | SelectContent
    | DismissProgram
    | TurnPage
    | TakeLead
    | HandLead
    | Scroll
    | Point
    | BindDevice
    | UnbindDevice
    | ReportPatient
    | FreezeEcg
    | ReleaseEcg
    | PutEcgMark
    | RemoveEcgMark
    | PointEcg
    | TakeEcgSnapshot
    | ReportEcgState
    | ShowHighlight
    | ClearHighlight
    | FreezePage
    | ReleasePage
    | PutNote
    | Ink
    | MarkNoteInError
    | ShowView
    | TickIdentity
    | SkipIdentityCheck
    | ReportWrongPatient
    | CreateTransport
    | ConnectTransport
    | RestartIce
    | Produce
    | PauseProducer
    | ResumeProducer
    | CloseProducer
    | Consume
    | PauseConsumer
    | ResumeConsumer
    | ViewConsumer
    | CloseConsumer
    | ProduceData
    | CloseDataProducer
    | ConsumeData
    | ResumeDataConsumer
    | CloseDataConsumer,
    Field(discriminator="type"),
]

# ---------------------------------------------------------------- results


class Done(Value):
    """Nothing to say beyond "yes"."""


class Joined(Value):
    """The present, and what a client needs to build its media."""

    you: ParticipantId
    snapshot: Consult
    router_rtp_capabilities: JsonObject
    server_time_ms: TimeMs


class SyncResult(Value):
    """Either the missing events, oldest first, or a snapshot when they are too many."""

    events: tuple["AnyEvent", ...] = ()
    snapshot: Consult | None = None


class IceServer(Value):
    """A TURN server that a client may fall back to, as RTCIceServer; its credentials end by themselves. [ME16]"""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = ""


class TransportOptions(Value):
    """What mediasoup-client's createSendTransport / createRecvTransport take (ORTC.md)."""

    id: TransportId
    ice_parameters: JsonObject
    ice_candidates: tuple[JsonObject, ...]
    dtls_parameters: JsonObject
    sctp_parameters: JsonObject
    ice_servers: tuple[IceServer, ...] = ()
    media_epoch: Counter


class IceRestarted(Value):
    """Fresh ICE credentials; also of the TURN servers, whose old ones may have ended. [ME16]"""

    ice_parameters: JsonObject
    ice_servers: tuple[IceServer, ...] = ()


class Produced(Value):
    """Id of the new Producer."""

    producer: ProducerId


class Consuming(Value):
    """What mediasoup-client's ``transport.consume`` takes."""

    consumer: ConsumerId
    producer: ProducerId
    kind: Literal["audio", "video"]
    rtp_parameters: JsonObject
    producer_paused: bool


class DataProduced(Value):
    """Id of the new DataProducer."""

    data_producer: DataProducerId


class ConsumingData(Value):
    """What mediasoup-client's ``transport.consumeData`` takes."""

    data_consumer: DataConsumerId
    data_producer: DataProducerId
    sctp_stream_parameters: JsonObject
    label: ShortText
    protocol: ShortText


class SnapshotOrdered(Value):
    """Id of the snapshot to come; `ecg_snapshot_taken` or `ecg_snapshot_failed` follows. [EC5]"""

    snapshot: Id


AnyResult = (
    Done
    | Joined
    | SyncResult
    | TransportOptions
    | IceRestarted
    | Produced
    | Consuming
    | DataProduced
    | ConsumingData
    | SnapshotOrdered
)
MediaResult = Done | TransportOptions | IceRestarted | Produced | Consuming | DataProduced | ConsumingData

# ---------------------------------------------------------------- events


class Event(Value):
    """Happened and was committed. ``revision`` grows by exactly one; a hole means "sync"."""

    revision: Counter
    at_ms: TimeMs


class ParticipantJoined(Event):
    """Sent to everyone in the Consult, the newcomer included. [CO2]"""

    type: Literal["participant_joined"] = "participant_joined"
    participant: Participant


class ParticipantLeft(Event):
    """Gone for good; its Producers went with it."""

    type: Literal["participant_left"] = "participant_left"
    participant: ParticipantId


class ConnectionChanged(Event):
    """A participant's socket or media path went away or came back."""

    type: Literal["connection_changed"] = "connection_changed"
    participant: ParticipantId
    connection: Connection


class ContextOpened(Event):
    """Clear every clinical view, then show this patient (W24). The view goes back to the summary."""

    type: Literal["context_opened"] = "context_opened"
    context: Context
    request: Request | None = None
    """Of the outside program that asked for it; None: somebody here did. [PR1]"""


class ContextClosed(Event):
    """Clear every clinical view; no patient is open."""

    type: Literal["context_closed"] = "context_closed"
    by: ParticipantId
    request: Request | None = None


class ContextResumed(Event):
    """An outside program opened again what is open: it is current, nothing is cleared. [AN4]"""

    type: Literal["context_resumed"] = "context_resumed"
    current: ContextType
    version: ContextVersion
    """One higher when something else was current, else as it was."""
    by: ParticipantId
    request: Request | None = None


class AnchorOpened(Event):
    """Something of the open patient is open; the version is raised, the patient stays. [AN2]"""

    type: Literal["anchor_opened"] = "anchor_opened"
    version: ContextVersion
    anchor: Anchor
    request: Request | None = None


class AnchorClosed(Event):
    """It is closed, and what was shared under it is gone. [AN3]"""

    type: Literal["anchor_closed"] = "anchor_closed"
    version: ContextVersion
    resource_type: AnchorType
    id: FhirId
    by: ParticipantId
    request: Request | None = None


class ContentShared(Event):
    """The shared content moved on from one version to the next. [AN5]"""

    type: Literal["content_shared"] = "content_shared"
    report: FhirId
    version: ContentVersion
    prior_version: ContentVersion
    bundle: JsonObject
    by: ParticipantId
    request: Request | None = None


class ContentSelected(Event):
    """Look at this. [AN6]"""

    type: Literal["content_selected"] = "content_selected"
    report: FhirId
    selected: tuple[Reference, ...]
    by: ParticipantId
    request: Request | None = None


class ProgramOutOfStep(Event):
    """An outside program does not show what is open: NOT IN SYNC. [PR3] (W19)"""

    type: Literal["program_out_of_step"] = "program_out_of_step"
    program: ProgramTrouble


class ProgramInStep(Event):
    """It does now, or somebody looked at it. [PR4]"""

    type: Literal["program_in_step"] = "program_in_step"
    program: Id
    by: ParticipantId | None = None
    """Who took it off the list; None: it follows."""


class ProgramSaid(Event):
    """What an outside program has to say to the other programs and that changes nothing here. [PR5]"""

    type: Literal["program_said"] = "program_said"
    by: ParticipantId
    request: Request
    context: tuple[JsonObject, ...]


class ContextConfirmed(Event):
    """One participant shows this version (W19)."""

    type: Literal["context_confirmed"] = "context_confirmed"
    participant: ParticipantId
    version: ContextVersion


class LeadChanged(Event):
    """Another participant leads, or nobody."""

    type: Literal["lead_changed"] = "lead_changed"
    lead: ParticipantId | None


class PageTurned(Event):
    """The lead shows another page."""

    type: Literal["page_turned"] = "page_turned"
    by: ParticipantId
    view: View


class ProducerAdded(Event):
    """Something new to consume."""

    type: Literal["producer_added"] = "producer_added"
    producer: ProducerInfo


class ProducerChanged(Event):
    """Muted or unmuted."""

    type: Literal["producer_changed"] = "producer_changed"
    producer: ProducerId
    paused: bool


class ProducerClosed(Event):
    """Gone; its Consumers are closed."""

    type: Literal["producer_closed"] = "producer_closed"
    producer: ProducerId


class DataProducerAdded(Event):
    """A new waveform or data source."""

    type: Literal["data_producer_added"] = "data_producer_added"
    data_producer: DataProducerInfo


class DataProducerClosed(Event):
    """Gone; its DataConsumers are closed."""

    type: Literal["data_producer_closed"] = "data_producer_closed"
    data_producer: DataProducerId


class DeviceBound(Event):
    """From now on the device's signals are this patient's; an earlier binding and a mismatch of it are over. [BI1]"""

    type: Literal["device_bound"] = "device_bound"
    binding: Binding


class DeviceUnbound(Event):
    """The binding is over, and with it everything of the patient that the device sent. [BI3]"""

    type: Literal["device_unbound"] = "device_unbound"
    device: ParticipantId
    patient: PatientId
    reason: UnboundReason
    by: ParticipantId | None = None
    """Who ended it; None: nobody did, or somebody outside the consult."""
    closed: tuple[DataProducerId, ...] = ()
    """DataProducers that ended with it."""


class DeviceReported(Event):
    """A device said which patient it is set to; empty: none. [BI6]"""

    type: Literal["device_reported"] = "device_reported"
    device: ParticipantId
    reported: ShortText


class DeviceMismatch(Event):
    """It is not the patient it is bound to: show both in red; `device_unbound` follows. [BI6] (W22)"""

    type: Literal["device_mismatch"] = "device_mismatch"
    mismatch: Mismatch


class EcgFrozen(Event):
    """Everyone's trace stands. [EC2]"""

    type: Literal["ecg_frozen"] = "ecg_frozen"
    freeze: EcgFreeze


class EcgReleased(Event):
    """Everyone's trace runs again. [EC2]"""

    type: Literal["ecg_released"] = "ecg_released"
    by: ParticipantId


class EcgMarkPut(Event):
    """A mark is new or changed. [EC3]"""

    type: Literal["ecg_mark_put"] = "ecg_mark_put"
    mark: EcgMark


class EcgMarkRemoved(Event):
    """A mark is gone. [EC3]"""

    type: Literal["ecg_mark_removed"] = "ecg_mark_removed"
    id: Id
    by: ParticipantId


class EcgSnapshotTaken(Event):
    """A strip is in the record, the 10 s after included. [EC5] (W33)"""

    type: Literal["ecg_snapshot_taken"] = "ecg_snapshot_taken"
    snapshot: EcgSnapshot


class EcgSnapshotFailed(Event):
    """A strip that was asked for is not in the record. [EC5]"""

    type: Literal["ecg_snapshot_failed"] = "ecg_snapshot_failed"
    id: Id
    by: ParticipantId
    code: Id
    """Of a refusal."""


class EcgStateReported(Event):
    """What a viewer's trace is now, for the consult's protocol. [EC6] (W17)"""

    type: Literal["ecg_state_reported"] = "ecg_state_reported"
    report: EcgStateReport


class Highlighted(Event):
    """Look here. [SH1]"""

    type: Literal["highlighted"] = "highlighted"
    highlight: Highlight


class HighlightCleared(Event):
    """A highlight is gone. [SH1]"""

    type: Literal["highlight_cleared"] = "highlight_cleared"
    by: ParticipantId


class PageFrozen(Event):
    """The page stands for all. [SH3]"""

    type: Literal["page_frozen"] = "page_frozen"
    freeze: PageFreeze


class PageReleased(Event):
    """It does not any more. [SH3]"""

    type: Literal["page_released"] = "page_released"
    by: ParticipantId


class NotePut(Event):
    """A note is in the record, committed together with this event. [SH4] (C23)"""

    type: Literal["note_put"] = "note_put"
    note: Note


class NoteMarkedInError(Event):
    """A note in the record says that it was a mistake, committed together with this event. [SH6] (C23)"""

    type: Literal["note_marked_in_error"] = "note_marked_in_error"
    note: FhirId
    patient: PatientId
    by: ParticipantId
    by_name: ShortText
    reason: Reason


class IdentityTicked(Event):
    """A side has made its part of the identity check. [IC2] (W23)"""

    type: Literal["identity_ticked"] = "identity_ticked"
    context_version: ContextVersion
    side: Literal["hub", "partner"]
    tick: IdentityTick


class IdentityCheckSkipped(Event):
    """Somebody decided that it could not wait. [IC4]"""

    type: Literal["identity_check_skipped"] = "identity_check_skipped"
    context_version: ContextVersion
    skip: IdentitySkip


class WrongPatientReported(Event):
    """What was read aloud is not this patient; `context_closed` follows. [IC3] (W23)"""

    type: Literal["wrong_patient_reported"] = "wrong_patient_reported"
    patient: PatientId
    context_version: ContextVersion
    by: ParticipantId
    reason: Reason


class MediaReset(Event):
    """The media worker was replaced: all Transports and Producers are gone, make new ones."""

    type: Literal["media_reset"] = "media_reset"
    media_epoch: Counter


class ConsultEnded(Event):
    """Final."""

    type: Literal["consult_ended"] = "consult_ended"
    by: ParticipantId


AnyEvent = Annotated[
    ParticipantJoined
    | ParticipantLeft
    | ConnectionChanged
    | ContextOpened
    | ContextClosed
    | ContextResumed
    | ContextConfirmed
    | AnchorOpened
    | AnchorClosed
    | ContentShared
    | ContentSelected
    | ProgramOutOfStep
    | ProgramInStep
    | ProgramSaid
    | LeadChanged
    | PageTurned
    | ProducerAdded
    | ProducerChanged
    | ProducerClosed
    | DataProducerAdded
    | DataProducerClosed
    | DeviceBound
    | DeviceUnbound
    | DeviceReported
    | DeviceMismatch
    | EcgFrozen
    | EcgReleased
    | EcgMarkPut
    | EcgMarkRemoved
    | EcgSnapshotTaken
    | EcgSnapshotFailed
    | EcgStateReported
    | Highlighted
    | HighlightCleared
    | PageFrozen
    | PageReleased
    | NotePut
    | NoteMarkedInError
    | IdentityTicked
    | IdentityCheckSkipped
    | WrongPatientReported
    | MediaReset
    | ConsultEnded,
    Field(discriminator="type"),
]

# ---------------------------------------------------------------- signals


class Signal(Value):
    """Never stored, never repeated, may be dropped."""


class Beat(Signal):
    """Every 2 s to every session: proof that the picture of the consult is fresh.

    A clinical view that has not seen one for 5 s must blank itself (W19).
    """

    type: Literal["beat"] = "beat"
    revision: Counter
    context_version: ContextVersion
    """Version of the open context, 0 when none is open."""
    server_time_ms: TimeMs
    same_surname: bool = False
    """A patient with the same family name is open in another consult of this hub. [SN1] (W25)"""
    stops_at_ms: TimeMs | None = None
    """When a server that is to restart ends at the latest, by its own clock; None while it is not. [SE14]"""


class Scrolled(Signal):
    """Follow the lead's scroll."""

    type: Literal["scrolled"] = "scrolled"
    by: ParticipantId
    context_version: ContextVersion
    view: View
    y: Fraction


class Pointed(Signal):
    """Show the lead's pointer."""

    type: Literal["pointed"] = "pointed"
    by: ParticipantId
    context_version: ContextVersion
    view: View
    x: Fraction
    y: Fraction
    visible: bool


class Inked(Signal):
    """A stroke of whoever draws on the frozen page, whole as it is now. [SH7]"""

    type: Literal["inked"] = "inked"
    by: ParticipantId
    freeze: Id
    context_version: ContextVersion
    stroke: StrokeNumber
    of: StrokeCount
    points: InkPoints


class EcgPointed(Signal):
    """Show somebody's pointer on the trace, while this context is open. [EC4]"""

    type: Literal["ecg_pointed"] = "ecg_pointed"
    by: ParticipantId
    stream_id: StreamId
    context_version: ContextVersion
    lead: Lead
    at_us: TimeUs
    uv: Microvolts
    visible: bool


class HeartRate(Signal):
    """What the server computed from a live trace, about once a second; a computed value, never the monitor's. [EC7]"""

    type: Literal["heart_rate"] = "heart_rate"
    stream_id: StreamId
    context_version: ContextVersion
    bpm: Annotated[float, Field(gt=0, le=600)] | None
    """None: there is none to give."""
    beats_us: Annotated[tuple[TimeUs, ...], Field(max_length=64)] = ()
    """R peaks found since the one before this, by their place on the trace."""
    at_us: TimeUs
    """End of the window it was computed from."""
    unsure: bool


class ActiveSpeaker(Signal):
    """Who is loudest now; ``None`` in silence."""

    type: Literal["active_speaker"] = "active_speaker"
    producer: ProducerId | None


class ConsumerLayers(Signal):
    """What this participant gets of one video has changed, and why it is not the best. [ME13]"""

    type: Literal["consumer_layers"] = "consumer_layers"
    consumer: ConsumerId
    spatial: int
    """Layer that is forwarded, 0 the smallest; -1: nothing."""
    temporal: int
    spatial_layers: int
    """How many the sender may send."""
    limited_by: Literal["nothing", "view", "line", "source"]
    """The area it is shown in, this participant's line, or layers the sender does not send."""


class LineQuality(Signal):
    """How this participant's own line is, every two seconds while media flow. [ME14]"""

    type: Literal["line_quality"] = "line_quality"
    transport: TransportId
    estimate_bps: int
    round_trip_ms: float | None
    lost: Fraction
    """Share of packets lost towards the participant."""
    protocol: Literal["udp", "tcp"]


class TransportGone(Signal):
    """The worker of this participant's Transport died while others of the consult go on: make new ones. [ME17]"""

    type: Literal["transport_gone"] = "transport_gone"
    transport: TransportId


class Goodbye(Signal):
    """The last thing a session hears, so that the page can say why."""

    type: Literal["goodbye"] = "goodbye"
    reason: Literal["replaced", "ended", "removed", "server_stopping", "too_slow", "malformed"]


AnySignal = Annotated[
    Beat
    | Scrolled
    | Pointed
    | EcgPointed
    | Inked
    | HeartRate
    | ActiveSpeaker
    | ConsumerLayers
    | LineQuality
    | TransportGone
    | Goodbye,
    Field(discriminator="type"),
]

SyncResult.model_rebuild()
Joined.model_rebuild()

COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
SIGNALS: TypeAdapter[AnySignal] = TypeAdapter(AnySignal)

RESULTS: dict[str, type[Value]] = {
    "join": Joined,
    "sync": SyncResult,
    "create_transport": TransportOptions,
    "restart_ice": IceRestarted,
    "produce": Produced,
    "consume": Consuming,
    "produce_data": DataProduced,
    "consume_data": ConsumingData,
    "take_ecg_snapshot": SnapshotOrdered,
}
"""Result class per command type; every other command answers ``Done``."""


class RefusalBody(Value):
    """How a refusal looks on the wire."""

    code: Id
    en: str
    zh: str


class Ack(Value):
    """Acknowledgement of a command: exactly one of ``result`` and ``refusal`` is set."""

    ok: bool
    result: AnyResult | None = None
    refusal: RefusalBody | None = None
