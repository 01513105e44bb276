"""`SqlConsultStore`: the truth about consults, with each commit one transaction.

The snapshot is replaced by compare-and-set on its revision and the events are
chained in the same transaction: there is never a state without its events, nor
an event without its state. A note is filed in the record by the transaction
that chains its event. Publishing follows the commit and is not done here.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.record.aio.store import banner_in, find_one, read_resource, write_resource, written_entry
from server.record.core.notes import author_of, in_error, note_document
from server.record.core.resource import FiledResource, file_checked, file_resource
from server.storage import audit
from server.storage.at_once import Hand, Prepared, SqlHand
from server.storage.database import TROUBLE, Database
from server.storage.models import ConsultPatient, ConsultSeat, ConsultState, EventRow, Process
from signaling.core.case import NoteFacts
from signaling.core.ids import ConsultId, ParticipantId, PatientId
from signaling.core.messages import EVENTS, AnyEvent, NoteMarkedInError, NotePut
from signaling.core.model import AnchorType, Consult, ConsultStatus, JsonObject, PatientBanner
from signaling.core.ports import Conflict, ViewShown
from signaling.core.seats import seat_changes
from signaling.core.surnames import keys_of

_IN_A_QUERY = 400
MAX_MEANINGS = 512
"""The longest unused is parsed anew."""
VIEW_SHOWN = "view_shown"
"""Rows of the event log that say what somebody's page showed: one when it begins, one when it ends. [VW1]"""


_REVISION = Prepared(
    select(ConsultState.revision).where(ConsultState.consult_id == bindparam("consult")).with_for_update()
)
_SWAP = Prepared(
    update(ConsultState)
    .where(ConsultState.consult_id == bindparam("consult"))
    .values(revision=bindparam("to_revision"), status=bindparam("to_status"), snapshot=bindparam("to_snapshot"))
)
_STAND = Prepared(
    delete(ConsultSeat).where(
        ConsultSeat.consult_id == bindparam("consult"), ConsultSeat.participant_id == bindparam("participant")
    )
)
_SIT = Prepared(
    insert(ConsultSeat).values(consult_id=bindparam("of"), participant_id=bindparam("who"), node=bindparam("to_node"))
)
_SEATS = Prepared(
    select(ConsultSeat.participant_id, ConsultSeat.node).where(ConsultSeat.consult_id == bindparam("consult"))
)
_SNAPSHOT = Prepared(select(ConsultState.snapshot).where(ConsultState.consult_id == bindparam("consult")))
_EVENTS = Prepared(
    select(EventRow.body)
    .where(EventRow.consult_id == bindparam("consult"), EventRow.revision > bindparam("after"))
    .order_by(EventRow.revision)
    .limit(bindparam("most"))
)
"""Asked every 2 s for each consult in which somebody is. [SE10]"""


def snapshot_in(hand: Hand, consult: ConsultId) -> str | None:
    """Present snapshot as it is stored, within somebody's reading."""
    rows = hand.rows(_SNAPSHOT, consult=consult)
    return str(rows[0][0]) if rows else None


def consult_of(snapshot: str | None) -> Consult | None:
    """The consult of a stored snapshot."""
    return None if snapshot is None else Consult.model_validate_json(snapshot)


class Meanings:
    """Consults of snapshots that were just read, parsed once for each text: pages are read more often than it changes.

    What is remembered is what a text means, never what is stored now: a caller reads that each time.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[ConsultId, tuple[str, Consult]] = OrderedDict()

    def of(self, consult: ConsultId, snapshot: str | None) -> Consult | None:
        """What `consult_of` says."""
        known = self._known.pop(consult, None)
        parsed = known[1] if known is not None and known[0] == snapshot else consult_of(snapshot)
        if snapshot is not None and parsed is not None and parsed.status is not ConsultStatus.ENDED:
            self._known[consult] = snapshot, parsed
            if len(self._known) > MAX_MEANINGS:
                self._known.popitem(last=False)
        return parsed


class SqlConsultStore:
    """`signaling.core.ports.ConsultStore` on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shown: dict[ConsultId, tuple[int, PatientId | None]] = {}
        """Who is open in each consult that has not ended, and the revision at which that is so."""

    def is_trouble(self, error: Exception) -> bool:
        """The database is away, stands still, or its disk is full."""
        return isinstance(error, (*TROUBLE, OSError))

    async def load(self, consult: ConsultId) -> Consult | None:
        """Present snapshot, or None when there is no such consult."""
        return consult_of(await self._database.at_once.read(lambda hand: snapshot_in(hand, consult)))

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None, node: str = ""
    ) -> None:
        """Store ``after`` and chain ``events``, and whom ``node`` has now.

        Raises:
            Conflict: the stored revision is no longer ``before.revision``.
        """
        snapshot = after.model_dump_json()
        entries = [_entry(before.id, event, actor) for event in events]
        gained, gone = seat_changes(before, events)

        def swap(hand: Hand) -> bool:
            [(revision,)] = hand.rows(_REVISION, consult=before.id) or [(None,)]
            if revision == before.revision:
                hand.rows(
                    _SWAP, consult=before.id, to_revision=after.revision, to_status=after.status.value,
                    to_snapshot=snapshot,
                )  # fmt: skip
                for who in (*gone, *(gained if node else ())):
                    hand.rows(_STAND, consult=before.id, participant=who)
                for who in gained if node else ():
                    hand.rows(_SIT, of=before.id, who=who, to_node=node)
            return bool(revision == before.revision)

        def swap_and_chain(hand: Hand) -> bool:
            swapped = swap(hand)
            if swapped:
                audit.append_at_once(hand, entries)
            return swapped

        if any(isinstance(event, NotePut | NoteMarkedInError) for event in events):
            swapped = await self._commit_notes(swap, entries, events, actor)
        else:
            swapped = await self._database.at_once.write(swap_and_chain, revocable=True)
        if not swapped:
            raise Conflict(f"consult {before.id} is no longer at revision {before.revision}")

    async def _commit_notes(
        self,
        swap: Callable[[Hand], bool],
        entries: Sequence[audit.Entry],
        events: Sequence[AnyEvent],
        actor: ParticipantId | None,
    ) -> bool:
        """With what the events file in the record."""
        notes = [await self._checked(event) for event in events if isinstance(event, NotePut)]
        async with self._database.write() as session:
            if not await session.run_sync(lambda sync: swap(SqlHand(sync))):
                return False
            filed = [await _file(session, note, owner, event, actor) for note, owner, event in notes]
            filed += [await _mark(session, event, actor) for event in events if isinstance(event, NoteMarkedInError)]
            await audit.append(session, [*filed, *entries])
        return True

    async def _checked(self, event: NotePut) -> tuple[FiledResource, str, NotePut]:
        """A note's document, checked while nobody waits for the database, and the hospital whose patient it is."""
        async with self._database.read() as session:
            patient = await read_resource(session, "Patient", event.note.patient)
        if patient is None:
            raise Conflict(f"no patient for note {event.note.id}")
        document = note_document(event.note, test=patient[0].test)
        return await asyncio.to_thread(file_resource, document), patient[0].owner, event

    async def note(self, consult: ConsultId, patient: PatientId, id_: str) -> NoteFacts | None:
        """A note in the record of a patient who belongs to the consult, else None."""
        member = select(ConsultPatient.patient_id).where(
            ConsultPatient.consult_id == consult, ConsultPatient.patient_id == patient
        )
        async with self._database.read() as session:
            if await session.scalar(member) is None:
                return None
            document = await find_one(session, patient, "DocumentReference", id_)
        author = None if document is None else author_of(document)
        if document is None or author is None:
            return None
        return NoteFacts(id=id_, by=author, in_error=document["status"] == "entered-in-error")

    async def surnames(self, patient: PatientId) -> frozenset[str]:
        """Family names of a patient, as the hospital gave them or as a Chinese name tells."""
        async with self._database.read() as session:
            found = await read_resource(session, "Patient", patient)
        names = [] if found is None else json.loads(found[1]).get("name", [])
        return keys_of(
            [str(name["family"]) for name in names if name.get("family")],
            [str(name["text"]) for name in names if name.get("text")],
        )

    async def shown_elsewhere(self) -> Mapping[ConsultId, PatientId]:
        """Who is open where somebody is.

        Asked every 2 s by each process about all consults of all of them: snapshots are read of those that have
        changed since, which is one in five where pages are turned every 10 s, and none of those where nobody is.
        """
        state = ConsultState
        open_ = select(state.consult_id, state.revision).where(
            state.status == ConsultStatus.OPEN.value, state.revision > 0
        )
        async with self._database.read() as session:
            revisions = {ConsultId(row[0]): int(row[1]) for row in await session.execute(open_)}
            known = {consult: shown for consult, shown in self._shown.items() if revisions.get(consult) == shown[0]}
            changed = [consult for consult in revisions if consult not in known]
            for start in range(0, len(changed), _IN_A_QUERY):
                some = select(state.consult_id, state.revision, state.snapshot).where(
                    state.consult_id.in_(changed[start : start + _IN_A_QUERY])
                )
                rows = [(str(row[0]), int(row[1]), str(row[2])) for row in await session.execute(some)]
                known |= await asyncio.to_thread(_shown_in, rows)  # at the first time all of a country's
        self._shown = known
        return {consult: patient for consult, (_, patient) in known.items() if patient is not None}

    async def views_shown(self, views: Sequence[ViewShown]) -> None:
        """Chain who saw what; `signaling.core.ports.ViewLog`. [VW1] (G5, C21)"""
        async with self._database.write() as session:
            await audit.append(session, [_view_entry(view) for view in views])

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        """Events after ``revision``, oldest first; None when there are more than ``limit``."""
        rows = await self._database.at_once.read(
            lambda hand: hand.rows(_EVENTS, consult=consult, after=revision, most=limit + 1)
        )
        if len(rows) > limit:
            return None
        return [EVENTS.validate_json(body) for (body,) in rows]

    async def seats(self, consult: ConsultId) -> tuple[int, Mapping[ParticipantId, str]]:
        """Which process has each participant, and the revision at which that is so."""
        return await self._database.at_once.write(lambda hand: _seats_in(hand, consult), revocable=True)

    async def seated(self) -> Mapping[ConsultId, frozenset[str]]:
        """The processes that have participants, of each consult in which anybody is."""
        query = select(ConsultSeat.consult_id, ConsultSeat.node).distinct()
        found: dict[ConsultId, frozenset[str]] = {}
        async with self._database.read() as session:
            for consult, node in await session.execute(query):
                found[ConsultId(consult)] = found.get(ConsultId(consult), frozenset()) | {str(node)}
        return found

    async def say_alive(self, node: str, word: int) -> None:
        """A process lives."""
        async with self._database.write() as session:
            await session.merge(Process(node=node, word=word))

    async def last_words(self) -> Mapping[str, int]:
        """What each process said last."""
        async with self._database.read() as session:
            return {str(row[0]): int(row[1]) for row in await session.execute(select(Process.node, Process.word))}

    async def forget_nodes(self, nodes: Collection[str]) -> None:
        """They are dead and have nobody; idempotent."""
        async with self._database.write() as session:
            await session.execute(delete(Process).where(Process.node.in_(list(nodes))))

    async def patient(self, consult: ConsultId, patient: PatientId) -> PatientBanner | None:
        """Banner of a patient who belongs to the consult, else None."""
        member = select(ConsultPatient.patient_id).where(
            ConsultPatient.consult_id == consult, ConsultPatient.patient_id == patient
        )
        async with self._database.read() as session:
            if await session.scalar(member) is None:
                return None
            return await banner_in(session, patient)

    async def resource(
        self, consult: ConsultId, patient: PatientId, resource_type: AnchorType, id_: str
    ) -> JsonObject | None:
        """A FHIR resource of a patient who belongs to the consult, else None."""
        member = select(ConsultPatient.patient_id).where(
            ConsultPatient.consult_id == consult, ConsultPatient.patient_id == patient
        )
        async with self._database.read() as session:
            if await session.scalar(member) is None:
                return None
            return await find_one(session, patient, resource_type.value, id_)

    async def consults_of(self, patient: PatientId) -> Sequence[ConsultId]:
        """Consults that have not ended to which the patient belongs."""
        query = (
            select(ConsultState.consult_id)
            .join(ConsultPatient, ConsultPatient.consult_id == ConsultState.consult_id)
            .where(ConsultPatient.patient_id == patient, ConsultState.status != ConsultStatus.ENDED.value)
        )
        async with self._database.read() as session:
            return [ConsultId(consult) for consult in await session.scalars(query)]


def _shown_in(rows: Sequence[tuple[str, int, str]]) -> dict[ConsultId, tuple[int, PatientId | None]]:
    """By consult: its revision, and who is open there if anybody is there."""
    found: dict[ConsultId, tuple[int, PatientId | None]] = {}
    for consult, revision, snapshot in rows:
        state = json.loads(snapshot)
        is_seen = state.get("context") and state.get("participants")
        found[ConsultId(consult)] = revision, PatientId(state["context"]["patient"]["id"]) if is_seen else None
    return found


def _seats_in(hand: Hand, consult: ConsultId) -> tuple[int, dict[ParticipantId, str]]:
    """Both of one moment: the row of the revision is locked, as a commit locks it."""
    [(revision,)] = hand.rows(_REVISION, consult=consult) or [(0,)]
    return revision, {ParticipantId(who): str(node) for who, node in hand.rows(_SEATS, consult=consult)}


async def _file(
    session: AsyncSession, note: FiledResource, owner: str, event: NotePut, actor: ParticipantId | None
) -> audit.Entry:
    """[SH4]"""
    stored = await write_resource(session, note, patient=note.patient_id, at_ms=event.at_ms, if_match=None, owner=owner)
    return written_entry(stored, actor or audit.SERVER, event.at_ms)


async def _mark(session: AsyncSession, event: NoteMarkedInError, actor: ParticipantId | None) -> audit.Entry:
    """[SH6] (C23) The former version stays."""
    found = await read_resource(session, "DocumentReference", event.note)
    if found is None or found[0].deleted or found[0].patient_id != event.patient:
        raise Conflict(f"note {event.note} is not there")
    filed = file_checked(in_error(json.loads(found[0].json), event))
    stored = await write_resource(
        session, filed, patient=event.patient, at_ms=event.at_ms, if_match=found[0].version, owner=found[0].owner
    )
    return written_entry(stored, actor or audit.SERVER, event.at_ms)


def _view_entry(view: ViewShown) -> audit.Entry:
    body = view.model_dump(mode="json", exclude={"consult"})
    at_ms = view.from_ms if view.to_ms is None else view.to_ms
    return audit.Entry(kind=VIEW_SHOWN, at_ms=at_ms, actor=view.participant, body=body, consult_id=view.consult)


def _entry(consult: ConsultId, event: AnyEvent, actor: ParticipantId | None) -> audit.Entry:
    return audit.Entry(
        kind=event.type,
        at_ms=event.at_ms,
        actor=actor or audit.SERVER,
        body=json.loads(event.model_dump_json()),
        consult_id=consult,
        revision=event.revision,
    )
