"""What the signalling plane needs from the outside, each as one small port.

Adapters: stores in ``signaling.aio.memory`` and ``server.storage``; buses in
``signaling.aio.memory`` and ``signaling.aio.redis_bus``; the media plane in
``server.media_plane``. One contract suite per port runs on every adapter.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from signaling.core.case import NoteFacts
from signaling.core.ids import ConsultId, ParticipantId, PatientId, ProducerId, TransportId
from signaling.core.messages import AnyEvent, ConsumerLayers, LineQuality, MediaCommand, MediaResult, TransportGone
from signaling.core.model import (
    AnchorType,
    Connection,
    Consult,
    EcgSettings,
    EcgSnapshot,
    EcgState,
    Id,
    JsonObject,
    PatientBanner,
    StreamId,
    TimeMs,
    TimeUs,
    Value,
    View,
)


class Conflict(Exception):
    """The stored revision is not the one the commit was based on; load again and retry."""


class ConsultStore(Protocol):
    """The truth about consults."""

    def is_trouble(self, error: Exception) -> bool:
        """Whether what a method raised means that nothing can be stored or read now; anything else is a bug."""

    async def load(self, consult: ConsultId) -> Consult | None:
        """Present snapshot, or None when there is no such consult."""

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None, node: str = ""
    ) -> None:
        """Store ``after`` and append ``events`` in one transaction, and with them whom the process now has. [SE8]

        Args:
            node: the process; it has whoever `seats.seat_changes` says. Empty: whoever had them has them.

        Raises:
            Conflict: the stored revision is no longer ``before.revision``.
        """

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        """Events after ``revision``, oldest first; None when there are more than ``limit``."""

    async def seats(self, consult: ConsultId) -> tuple[int, Mapping[ParticipantId, str]]:
        """Which process has each participant, and the revision at which that is so."""

    async def seated(self) -> Mapping[ConsultId, frozenset[str]]:
        """The processes that have participants, of each consult in which anybody is."""

    async def say_alive(self, node: str, word: int) -> None:
        """A process lives; ``word`` is another one each time."""

    async def last_words(self) -> Mapping[str, int]:
        """What each process said last."""

    async def forget_nodes(self, nodes: Collection[str]) -> None:
        """They are dead and have nobody; idempotent."""

    async def patient(self, consult: ConsultId, patient: PatientId) -> PatientBanner | None:
        """Banner of a patient who belongs to the consult, else None."""

    async def resource(
        self, consult: ConsultId, patient: PatientId, resource_type: AnchorType, id_: str
    ) -> JsonObject | None:
        """A FHIR resource of a patient who belongs to the consult, else None. [AN1]"""

    async def note(self, consult: ConsultId, patient: PatientId, id_: str) -> NoteFacts | None:
        """A note in the record of a patient who belongs to the consult, else None. [SH6]

        `commit` files each `NotePut` and `NoteMarkedInError` in the record, in the transaction that stores the event.
        """

    async def surnames(self, patient: PatientId) -> frozenset[str]:
        """Family names of a patient as `surnames.keys` makes them comparable; empty when they are not known. [SN1]"""

    async def shown_elsewhere(self) -> Mapping[ConsultId, PatientId]:
        """Who is open in each consult that has not ended and in which somebody is. [SN1]"""

    async def consults_of(self, patient: PatientId) -> Sequence[ConsultId]:
        """Consults that have not ended to which the patient belongs."""


class EventBus(Protocol):
    """A hint to the other nodes that a consult has moved on, and signals for who is there; may lose both."""

    async def publish(self, consult: ConsultId, revision: int) -> None:
        """Tell every node, this one included."""

    def listen(self, listener: Callable[[ConsultId, int], Awaitable[None]]) -> None:
        """Call ``listener`` for each hint."""

    def pass_on(self, consult: ConsultId, key: str, body: bytes) -> None:
        """Send a signal to every other node, without waiting; of two that wait with one key the newer goes. [LE4]"""

    def listen_to_signals(self, listener: Callable[[ConsultId, bytes], None]) -> None:
        """Call ``listener`` for each signal of another node; it checks what it gets, and never raises."""

    async def start(self) -> None:
        """Begin to receive."""

    async def stop(self) -> None:
        """Release everything; idempotent."""


class MediaListener(Protocol):
    """What the media plane tells signalling of its own accord."""

    async def media_reset(self, consult: ConsultId) -> None:
        """The worker of this consult was replaced; all Transports and Producers are gone."""

    async def transport_changed(
        self, consult: ConsultId, participant: ParticipantId, transport: TransportId, connection: Connection
    ) -> None:
        """CONNECTED: consent is fresh. UNSTABLE: none for 7 s. RECONNECTING: closed after 30 s."""

    async def producers_closed(self, consult: ConsultId, participant: ParticipantId) -> None:
        """The participant's sending Transport died in the worker; what it produced is gone."""

    async def active_speaker(self, consult: ConsultId, producer: ProducerId | None) -> None:
        """The loudest Producer changed."""

    async def line_news(
        self, consult: ConsultId, participant: ParticipantId, news: ConsumerLayers | LineQuality | TransportGone
    ) -> None:
        """What one participant gets of a video, or how its line is; nobody else's business."""


class ViewShown(Value):
    """Somebody's page showed a part of the record. [VW1] (G5, C21)"""

    id: Id
    """Of the showing: beginning and end have the same."""
    consult: ConsultId
    participant: ParticipantId
    patient: PatientId
    context_version: int
    view: View
    from_ms: TimeMs
    to_ms: TimeMs | None = None
    """None: it goes on."""


class ViewLog(Protocol):
    """Where it is kept who saw what. [VW1]"""

    async def views_shown(self, views: Sequence[ViewShown]) -> None:
        """Keep beginnings and ends, in order, all or none."""


class MediaPlane(Protocol):
    """Everything that moves media. Errors are ``Refusal``s from signaling.core.errors."""

    async def open(self, consult: ConsultId) -> JsonObject:
        """Place the consult on a worker (idempotent); its router RTP capabilities."""

    async def call(self, consult: ConsultId, participant: ParticipantId, command: MediaCommand) -> MediaResult:
        """Carry out one media command for one participant.

        Ids named in the command must belong to that participant, else ``not_found``.
        """

    async def release(self, consult: ConsultId, participant: ParticipantId) -> None:
        """Close all Transports of a participant; idempotent."""

    async def close(self, consult: ConsultId) -> None:
        """Forget the consult; idempotent."""

    def listen(self, listener: MediaListener) -> None:
        """Register the one listener."""


class SnapshotOrder(Value):
    """A strip that somebody asked for. [EC5] (W33)"""

    id: Id
    consult: ConsultId
    patient: PatientBanner
    """Who is open: the identity that goes with the strip."""
    context_version: int
    stream_id: StreamId
    at_us: TimeUs
    by: ParticipantId
    at_ms: TimeMs
    settings: EcgSettings
    age_ms: TimeMs | None
    state: EcgState


class WaveformArchive(Protocol):
    """Where strips of a trace are kept with the record."""

    async def order_snapshot(self, order: SnapshotOrder) -> None:
        """Take note of an order, at once and lastingly.

        Raises:
            Refusal: ``not_found`` when there is no such stream of that patient in the consult, or the archive's own.
        """

    async def unfinished(self) -> Sequence[SnapshotOrder]:
        """Orders of which nothing came yet, oldest first: an earlier process ended before they did."""

    async def snapshot_failed(self, snapshot: str, code: str) -> None:
        """Nothing will come of an order; idempotent."""

    async def snapshot_stored(self, snapshot: str) -> EcgSnapshot:
        """Wait until the 10 s after are in, or will not come, and the strip is stored.

        Raises:
            Refusal: it could not be stored.
        """
