"""Showings of a record, read back from the event log. [VW3] (G5, C21)

A showing has a row when it begins and one when it ends, or one for both. Where the end is missing the server died
first; then it lasted until the next thing the log says of that participant at the latest.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from server.storage.consult_store import VIEW_SHOWN
from server.storage.models import ConsultPatient, EventRow

MOST_ROWS = 5_000
"""Of one answer; whoever gets as many asks about less time."""
_ENDS = ("connection_changed", "participant_left", "context_opened", "context_closed", "consult_ended")
"""Events after which a page that showed something is known not to any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One participant's page showed this.

    Args:
        to_ms: None when the log has no end of it.
        at_most_ms: the end, or what is known of it; None while it goes on.
    """

    id: str
    consult: str
    participant: str
    context_version: int
    page: str
    item: str
    from_ms: int
    to_ms: int | None
    at_most_ms: int | None
    name: str = ""
    role: str = ""
    hospital: str = ""


def log_of(patient: str) -> Select[str | None, str, int, str]:
    """What the log says of who looked, in the patient's consults; `ix_event_consult_kind` leads there."""
    consults = select(ConsultPatient.consult_id).where(ConsultPatient.patient_id == patient)
    return (
        select(EventRow.consult_id, EventRow.kind, EventRow.at_ms, EventRow.body)
        .where(EventRow.consult_id.in_(consults), EventRow.kind.in_((VIEW_SHOWN, "participant_joined", *_ENDS)))
        .order_by(EventRow.seq)
    )


async def who_saw(session: AsyncSession, patient: str, from_ms: int, to_ms: int) -> list[Seen]:
    """Everyone whose page showed a part of the patient's record in ``[from_ms, to_ms)``, earliest first."""
    rows = [tuple(row) for row in (await session.execute(log_of(patient))).all()]
    # A year of a long consult is seconds of work: nobody's media wait for it.
    return await asyncio.to_thread(_between, rows, patient, from_ms, to_ms)


def _between(rows: list[tuple[Any, ...]], patient: str, from_ms: int, to_ms: int) -> list[Seen]:
    log = [(consult or "", kind, at_ms, json.loads(body)) for consult, kind, at_ms, body in rows]
    seen = [one for one in showings(log, patient) if one.from_ms < to_ms and (one.at_most_ms or to_ms) > from_ms]
    people = _people(log)
    return sorted((_named(one, people) for one in seen), key=lambda one: (one.from_ms, one.id))


def showings(log: Iterable[tuple[str, str, int, dict[str, Any]]], patient: str) -> list[Seen]:
    """Showings of the patient's record in a log of ``(consult, kind, at_ms, body)``, in the order of the log."""
    found: dict[str, Seen] = {}
    open_: dict[tuple[str, str], str] = {}
    for consult, kind, at_ms, body in log:
        if kind == VIEW_SHOWN:
            who = (consult, str(body["participant"]))
            if open_.get(who) not in (None, body["id"]):
                _bounded(found, open_.pop(who), body["from_ms"])
            if body["patient"] != patient:
                continue
            found[body["id"]] = _seen(consult, body)
            if body["to_ms"] is None:
                open_[who] = body["id"]
            else:
                open_.pop(who, None)
        elif kind in _ENDS and not (kind == "connection_changed" and body["connection"] != "reconnecting"):
            gone = body.get("participant")
            for who in [who for who in open_ if who[0] == consult and gone in (None, who[1])]:
                _bounded(found, open_[who], at_ms)
    return list(found.values())


def _bounded(found: dict[str, Seen], id_: str, at_ms: int) -> None:
    one = found[id_]
    if one.at_most_ms is None:
        found[id_] = replace(one, at_most_ms=max(at_ms, one.from_ms + 1))


def _seen(consult: str, body: dict[str, Any]) -> Seen:
    to_ms = body["to_ms"]
    return Seen(
        id=body["id"],
        consult=consult,
        participant=body["participant"],
        context_version=body["context_version"],
        page=body["view"]["page"],
        item=body["view"]["item"],
        from_ms=body["from_ms"],
        to_ms=to_ms,
        # What began and ended in the same millisecond was shown all the same.
        at_most_ms=None if to_ms is None else max(to_ms, body["from_ms"] + 1),
    )


def _people(log: Iterable[tuple[str, str, int, dict[str, Any]]]) -> dict[tuple[str, str], dict[str, Any]]:
    """By consult and participant."""
    joined = [(consult, body["participant"]) for consult, kind, _, body in log if kind == "participant_joined"]
    return {(consult, one["id"]): one for consult, one in joined}


def _named(seen: Seen, people: dict[tuple[str, str], dict[str, Any]]) -> Seen:
    who = people.get((seen.consult, seen.participant))
    return seen if who is None else replace(seen, name=who["name"], role=who["role"], hospital=who["hospital"])
