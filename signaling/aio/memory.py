"""Store and bus in this process's memory: for one node without a database, and for tests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from signaling.core.case import NoteFacts
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import AnyEvent, NoteMarkedInError, NotePut
from signaling.core.model import AnchorType, Consult, ConsultStatus, JsonObject, PatientBanner
from signaling.core.ports import Conflict
from signaling.core.seats import seat_changes
from signaling.core.surnames import keys_of

log = logging.getLogger(__name__)


class MemoryStore:
    """`signaling.core.ports.ConsultStore`."""

    def __init__(self) -> None:
        self._consults: dict[ConsultId, Consult] = {}
        self._events: dict[ConsultId, list[AnyEvent]] = {}
        self._patients: dict[ConsultId, dict[PatientId, PatientBanner]] = {}
        self._resources: dict[tuple[str, str, str], JsonObject] = {}
        self._notes: dict[tuple[PatientId, str], NoteFacts] = {}
        self._seats: dict[ConsultId, dict[ParticipantId, str]] = {}
        self._words: dict[str, int] = {}

    def add(
        self,
        consult: Consult,
        patients: Iterable[PatientBanner] = (),
        resources: Iterable[tuple[PatientId, JsonObject]] = (),
    ) -> None:
        """Make a consult exist, with its patients and their FHIR resources."""
        self._consults[consult.id] = consult
        self._events[consult.id] = []
        self._patients[consult.id] = {patient.id: patient for patient in patients}
        self._resources |= {(of, one["resourceType"], one["id"]): one for of, one in resources}

    def is_trouble(self, error: Exception) -> bool:
        """Memory is always there."""
        return False

    async def load(self, consult: ConsultId) -> Consult | None:
        """Present snapshot, or None when there is no such consult."""
        return self._consults.get(consult)

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None, node: str = ""
    ) -> None:
        """Store ``after`` and append ``events``, and whom ``node`` has now.

        Raises:
            Conflict: the stored revision is no longer ``before.revision``.
        """
        stored = self._consults.get(before.id)
        if stored is None or stored.revision != before.revision:
            raise Conflict
        self._consults[before.id] = after
        self._events[before.id].extend(events)
        seats = self._seats.setdefault(before.id, {})
        gained, gone = seat_changes(before, events)
        seats.update(dict.fromkeys(gained, node) if node else {})
        for who in gone:
            seats.pop(who, None)
        for event in events:
            if isinstance(event, NotePut):
                note = event.note
                self._notes[note.patient, note.id] = NoteFacts(id=note.id, by=note.by, in_error=False)
            elif isinstance(event, NoteMarkedInError):
                filed = self._notes[event.patient, event.note]
                self._notes[event.patient, event.note] = filed.model_copy(update={"in_error": True})

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        """Events after ``revision``, oldest first; None when there are more than ``limit``."""
        missed = [event for event in self._events.get(consult, ()) if event.revision > revision]
        return None if len(missed) > limit else missed

    async def seats(self, consult: ConsultId) -> tuple[int, Mapping[ParticipantId, str]]:
        """Which process has each participant, and the revision at which that is so."""
        return self._consults[consult].revision, dict(self._seats.get(consult, {}))

    async def seated(self) -> Mapping[ConsultId, frozenset[str]]:
        """The processes that have participants, of each consult in which anybody is."""
        return {consult: frozenset(seats.values()) for consult, seats in self._seats.items() if seats}

    async def say_alive(self, node: str, word: int) -> None:
        """A process lives."""
        self._words[node] = word

    async def last_words(self) -> Mapping[str, int]:
        """What each process said last."""
        return dict(self._words)

    async def forget_nodes(self, nodes: Collection[str]) -> None:
        """They are dead and have nobody; idempotent."""
        self._words = {node: word for node, word in self._words.items() if node not in nodes}

    async def patient(self, consult: ConsultId, patient: PatientId) -> PatientBanner | None:
        """Banner of a patient who belongs to the consult, else None."""
        return self._patients.get(consult, {}).get(patient)

    async def resource(
        self, consult: ConsultId, patient: PatientId, resource_type: AnchorType, id_: str
    ) -> JsonObject | None:
        """A FHIR resource of a patient who belongs to the consult, else None."""
        if patient not in self._patients.get(consult, {}):
            return None
        return self._resources.get((patient, resource_type.value, id_))

    async def note(self, consult: ConsultId, patient: PatientId, id_: str) -> NoteFacts | None:
        """A note in the record of a patient who belongs to the consult, else None."""
        return self._notes.get((patient, id_)) if patient in self._patients.get(consult, {}) else None

    async def surnames(self, patient: PatientId) -> frozenset[str]:
        """Family names, as far as the banner tells."""
        known = (patients.get(patient) for patients in self._patients.values())
        banner = next((one for one in known if one is not None), None)
        return frozenset() if banner is None else keys_of((), (banner.name, banner.name_latin))

    async def shown_elsewhere(self) -> Mapping[ConsultId, PatientId]:
        """Who is open where somebody is."""
        return {
            consult.id: consult.context.patient.id
            for consult in self._consults.values()
            if consult.context is not None and consult.participants
        }

    async def consults_of(self, patient: PatientId) -> Sequence[ConsultId]:
        """Consults that have not ended to which the patient belongs."""
        return [
            consult
            for consult, patients in self._patients.items()
            if patient in patients and self._consults[consult].status is not ConsultStatus.ENDED
        ]


class MemoryBus:
    """`signaling.core.ports.EventBus` for one process; a slow listener makes hints wait, not commits."""

    def __init__(self, limit: int = 1_000) -> None:
        self._listeners: list[Callable[[ConsultId, int], Awaitable[None]]] = []
        self._hints: asyncio.Queue[tuple[ConsultId, int]] = asyncio.Queue(limit)
        self._task: asyncio.Task[None] | None = None
        self.lost_hints = 0

    async def publish(self, consult: ConsultId, revision: int) -> None:
        """Tell every listener; the hint is dropped and counted when too many are waiting."""
        try:
            self._hints.put_nowait((consult, revision))
        except asyncio.QueueFull:
            self.lost_hints += 1

    def listen(self, listener: Callable[[ConsultId, int], Awaitable[None]]) -> None:
        """Call ``listener`` for each hint."""
        self._listeners.append(listener)

    def pass_on(self, consult: ConsultId, key: str, body: bytes) -> None:
        """There is no other node."""

    def listen_to_signals(self, listener: Callable[[ConsultId, bytes], None]) -> None:
        """There is no other node."""

    async def start(self) -> None:
        """Begin to deliver."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop delivering; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            consult, revision = await self._hints.get()
            for listener in self._listeners:
                try:
                    await listener(consult, revision)
                except Exception:  # one consult's trouble must not stop the hints of all others
                    log.exception("hint listener failed", extra={"consult": consult})
