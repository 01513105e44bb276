"""The gateway's journal on a real disk: bounds, repeats, damage, keys, numbering anew."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from server.exits import StartError
from server.gateway.core.crossing import MAX_KEY_CHARS, Crossing, LockRefused, Receipt, RefusalCode
from server.gateway.journal import Journal, JournalLimits, Stored
from server.gateway.journal_rows import MayCross
from server.gateway.sealing import load_keys, rotate
from server.lock.aio.gateways import lock_key
from server.lock.aio.vault import KeyPlace, Vault
from server.lock.core.link import Arrived, Settled
from server.lock.core.proof import next_mark
from server.lock.core.wire import GENESIS, OPERATOR_KIND, PATIENT_INCOMPLETE, Cross, Gap

Open = Callable[..., Journal]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    journals: list[Journal] = []

    def make(may_cross: MayCross = lambda _source, _crossing: True, **limits: int) -> Journal:
        keys = load_keys(tmp_path / "journal.keys")
        journals.append(Journal(tmp_path, keys, JournalLimits(**limits), lambda: 7, may_cross))
        return journals[-1]

    yield make
    for journal in journals:
        await journal.close()


def crossing(number: int, body: bytes = b"", kind: str = "ORU^R01") -> Crossing:
    return Crossing(
        kind=kind, key=f"k{number}", patient=(("urn:mrn", "0001"),), media_type="application/fhir+json",
        body=body or f"body {number} of 王芳".encode(), made_us=number,
    )  # fmt: skip


async def put(journal: Journal, *numbers: int, source: str = "lis") -> list[Receipt]:
    return [await journal.put(source, crossing(number), received_us=1) for number in numbers]


async def read(journal: Journal, first: int = 1) -> list[Stored | Gap]:
    return await journal.read(first, max_bytes=10**6)


def settled(first: int, last: int, verdict: str = "applied", code: str = "") -> list[Settled]:
    return [
        Settled(sequence=n, verdict=verdict, code=code, received_us=1, committed_us=2) for n in range(first, last + 1)
    ]


async def test_what_was_put_is_there_after_a_restart_and_sealed(opened: Open, tmp_path: Path) -> None:
    """[LK12] Everything but metadata is encrypted at rest."""
    journal = opened()
    await put(journal, 1, 2)
    await journal.keep_inward(inward(1))
    await journal.close()
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("journal.db*"))
    for word in (b"body 1", "王芳".encode(), b"k1", b"urn:mrn", b"0001"):
        assert word not in raw, word
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("journal.[dk]*")} == {0o600}
    again = opened()
    first, second = await read(again)
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.crossing, second.crossing) == (crossing(1), crossing(2))
    assert second.mark == next_mark(first.mark, 2, "lis", "k2", hashlib.sha256(second.crossing.body).digest())


async def test_a_repeat_is_known_also_after_it_crossed(opened: Open) -> None:
    """Equal keys of one source are one crossing; other content under the same key is refused, not dropped."""
    journal = opened()
    (first,) = await put(journal, 1)
    await journal.settle(settled(1, 1), 9, {1: 3})
    (again,) = await put(journal, 1)
    (other,) = await put(journal, 1, source="ris")
    assert (again.repeated, again.sequence, other.repeated) == (True, first.sequence, False)
    with pytest.raises(LockRefused) as told:
        await journal.put("lis", crossing(1, b"something else"), received_us=1)
    assert told.value.code is RefusalCode.KEY_REUSED
    assert told.value.is_final


async def test_full_is_said_and_ends_when_the_hub_took_something(opened: Open) -> None:
    journal = opened(max_count=4)
    receipts = await put(journal, 1, 2, 3, 4)
    assert [one.almost_full for one in receipts] == [False, False, False, True]
    with pytest.raises(LockRefused) as told:
        await put(journal, 5)
    assert told.value.code is RefusalCode.FULL
    assert not told.value.is_final
    assert (await put(journal, 4))[0].repeated, "what is there is there"
    await journal.settle(settled(1, 2), 9, {})
    assert not (await put(journal, 5))[0].almost_full
    by_bytes = await journal.level()
    assert by_bytes.waiting == 3


async def test_of_many_that_are_put_together_each_has_its_own_outcome(opened: Open) -> None:
    """They share a commit; one that is refused takes no other with it."""
    journal = opened(max_count=20)
    puts = [journal.put("lis", crossing(number % 25), received_us=1) for number in range(40)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, LockRefused)]
    kept = [one for one in outcomes if isinstance(one, Receipt) and not one.repeated]
    assert (len(kept), {one.code for one in refused}) == (20, {RefusalCode.FULL})
    assert [one.sequence for one in kept] == sorted(one.sequence for one in kept)
    assert (await journal.level()).waiting == 20


async def test_a_full_disk_refuses_and_loses_nothing(opened: Open) -> None:
    """SQLite's own SQLITE_FULL, as from a disk without room."""
    journal = opened()
    await put(journal, 1)

    def limit(pages: int) -> Callable[[sqlite3.Connection], None]:
        return lambda db: db.execute(f"PRAGMA max_page_count = {pages}").close()

    await journal._scribe.run(limit(1))  # the disk is full now
    puts = [journal.put("lis", crossing(number, b"x" * 4_000), received_us=1) for number in range(2, 60)]
    told = (await asyncio.gather(*puts, return_exceptions=True))[-1]
    assert isinstance(told, LockRefused)
    assert told.code is RefusalCode.UNAVAILABLE
    assert "SQLITE_FULL" in told.reason
    kept = (await journal.level()).waiting
    await journal._scribe.run(limit(10**6))  # somebody made room
    await put(journal, 999)
    found = [one for one in await journal.read(1, max_bytes=10**7, max_count=500) if isinstance(one, Stored)]
    assert [one.sequence for one in found] == list(range(1, kept + 2))


async def test_a_damaged_row_is_a_gap_with_its_mark(opened: Open, tmp_path: Path) -> None:
    """[LK14] Changed, or moved from another row: it does not open, and the line goes on behind it."""
    journal = opened()
    await put(journal, 1, 2, 3, 4)
    marks = [one.mark for one in await read(journal)]
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute("UPDATE outward SET sealed = (SELECT sealed FROM outward WHERE id = 4) WHERE id = 2")
        db.execute("UPDATE outward SET sealed = substr(sealed, 1, 30) WHERE id = 3")
        db.commit()
    one, two, three, four = await read(journal)
    assert (two, three) == (
        Gap(first=2, last=2, code="corrupt", mark=marks[1]), Gap(first=3, last=3, code="corrupt", mark=marks[2]),
    )  # fmt: skip
    assert isinstance(one, Stored)
    assert isinstance(four, Stored)
    assert (await journal.level()).waiting == 2


async def test_a_hub_that_knows_other_numbers_begins_a_new_stream(opened: Open) -> None:
    """[LK9] Behind, forked, or forgotten: what waits is numbered from 1 under a new name, marks anew."""
    journal = opened()
    await put(journal, 1, 2, 3)
    marks = [one.mark for one in await read(journal)]
    assert await journal.resume(0, GENESIS)
    assert await journal.resume(2, marks[1])
    assert not await journal.resume(2, marks[0]), "another journal's number 2"
    assert not await journal.resume(4, marks[2]), "later than anything here"
    assert not await journal.resume(0, marks[0])
    await journal.settle(settled(1, 1), 9, {})
    before = await journal.level()
    await journal.renew_stream()
    after = await journal.level()
    assert after.stream != before.stream
    assert (after.last, after.settled, after.waiting) == (2, 0, 2)
    first, second = await read(journal)
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.sequence, first.crossing.key, second.crossing.key) == (1, "k2", "k3")
    assert first.mark == next_mark(GENESIS, 1, "lis", "k2", first.digest)
    (third,) = await put(journal, 4)
    assert third.sequence > second.id
    assert isinstance((await read(journal, 3))[0], Stored)


async def test_what_the_hub_refused_is_kept_within_its_bound(opened: Open) -> None:
    journal = opened(parked_bytes=1_000)
    for number in range(1, 6):
        await journal.put("lis", crossing(number, b"x" * 400), received_us=1)
    await journal.settle(settled(1, 5, "refused", "invalid"), 9, {})
    level = await journal.level()
    assert (level.waiting, level.parked, level.parked_bytes) == (0, 2, 800)


def inward(number: int, mark: bytes = GENESIS, body: bytes = b"report") -> Arrived:
    digest = hashlib.sha256(body).digest()
    frame = Cross(
        sequence=number, source="hub", kind="MDM^T02", key=f"in-{number}", patient=(), about=(),
        media_type="application/fhir+json", made_us=0, received_us=0, journaled_us=0, sent_us=0, size=len(body),
        digest=digest, mark=next_mark(mark, number, "hub", f"in-{number}", digest), body=body,
    )  # fmt: skip
    return Arrived(frame=frame, body=body, received_us=5)


async def test_inward_once_and_its_outcome_once(opened: Open) -> None:
    """[LK18] A number again, or a whole stream again, delivers nothing twice."""
    journal = opened()
    await journal.keep_inward(inward(1))
    assert (await journal.level()).inward_up_to == 1
    stored = await journal.next_inward(["MDM^T02"])
    assert stored is not None
    assert await journal.inward_kinds() == {"MDM^T02"}
    await journal.delivered(stored)
    assert await journal.next_inward(["MDM^T02"]) is None
    (outcome,) = await read(journal)
    assert isinstance(outcome, Stored)
    assert (outcome.source, msgpack.unpackb(outcome.crossing.body)["key"]) == ("lock", "in-1")
    await journal.reset_inward()
    await journal.keep_inward(inward(1))
    assert await journal.next_inward(["MDM^T02"]) is None
    assert len(await read(journal)) == 2, "the hub has forgotten, so it is told again"


async def test_keys_are_added_and_old_ones_still_open(opened: Open, tmp_path: Path) -> None:
    journal = opened()
    await put(journal, 1)
    await journal.close()
    rotate(tmp_path / "journal.keys")
    journal = opened()
    await put(journal, 2)
    assert all(isinstance(one, Stored) for one in await read(journal))
    assert (await put(journal, 1))[0].repeated
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        assert len({key for (key,) in db.execute("SELECT key_id FROM outward")}) == 2
    await journal.close()
    (tmp_path / "journal.keys").chmod(0o640)
    with pytest.raises(StartError, match="chmod 600"):
        load_keys(tmp_path / "journal.keys")


async def test_a_file_that_is_no_journal_is_one_sentence(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StartError, match="cannot be used"):
        opened()


async def test_what_was_put_is_sent_although_nobody_waits_for_the_answer(opened: Open) -> None:
    """An interface that hangs up during its put: the crossing is kept, so the sender has to hear of it."""
    journal, held = opened(), threading.Event()
    waiting = asyncio.create_task(journal._scribe.run(lambda _db: held.wait(20)))
    putting = asyncio.create_task(put(journal, 1))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    held.set()
    await asyncio.wait_for(journal.put_event.wait(), 20)
    await waiting
    assert (await journal.level()).waiting == 1


async def test_a_journal_whose_keys_are_gone_is_not_given_up(opened: Open, tmp_path: Path) -> None:
    """Started with new keys, everything that waits would become a gap."""
    journal = opened()
    await put(journal, 1)
    await journal.close()
    kept = (tmp_path / "journal.keys").read_bytes()
    (tmp_path / "journal.keys").unlink()
    with pytest.raises(StartError, match=r"Bring its journal\.keys back"):
        opened()
    (tmp_path / "journal.keys").write_bytes(kept)
    name = rotate(tmp_path / "journal.keys")
    parts = json.loads((tmp_path / "journal.keys").read_text())
    parts["keys"] = [one for one in parts["keys"] if one["id"] == name]
    whole = (tmp_path / "journal.keys").read_bytes()
    (tmp_path / "journal.keys").write_text(json.dumps(parts))
    with pytest.raises(StartError, match="sealed with keys that are not here"):
        opened()
    (tmp_path / "journal.keys").write_bytes(whole)
    assert isinstance((await read(opened()))[0], Stored)


async def test_names_are_durable_before_anything_depends_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not take the journal's keys back, nor the name of a file that the hub has acknowledged."""
    synced: list[int] = []

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    load_keys(tmp_path / "journal.keys")
    assert synced[-1] == tmp_path.stat().st_ino
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _process: lock_key(tmp_path).private_bytes_raw(), range(8)))
    assert len(set(made)) == 1, "processes of one hub that start together have one key, and never half of one"
    assert tmp_path.stat().st_ino in synced[1:]
    keys = tmp_path / "lock-files.keys"
    vault = Vault(tmp_path / "lock", KeyPlace(path=keys), load_keys(keys))
    path = vault.path(hashlib.sha256(b"DICM").hexdigest())
    left = path.with_name(f".{path.name}.dead")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file of a process that was killed")
    for _again in range(2):
        synced.clear()
        vault.keep(b"DICM")
        assert synced[-2:] == [path.parent.stat().st_ino, path.parent.parent.stat().st_ino]
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_the_hub_sends_has_a_bound_here(opened: Open) -> None:
    """[LK11] A hub may not fill the hospital's disk: it is not acknowledged, so it waits there."""
    journal = opened(inward_count=2)
    for number in (1, 2):
        await journal.keep_inward(inward(number))
    with pytest.raises(LockRefused) as told:
        await journal.keep_inward(inward(3))
    assert told.value.code is RefusalCode.FULL
    assert (await journal.level()).inward_up_to == 2
    await journal.keep_inward(inward(2))
    stored = await journal.next_inward(["MDM^T02"])
    assert stored is not None
    await journal.delivered(stored)
    await journal.keep_inward(inward(3))


async def test_an_outcome_can_always_cross(opened: Open) -> None:
    """[LK18] However long the hub's key is, and when the hub asks again: else the line would end at it for ever."""
    journal = opened()
    longest = "k" * MAX_KEY_CHARS
    long = inward(1)
    long = replace(long, frame=replace(long.frame, key=longest))
    await journal.keep_inward(long)
    stored = await journal.next_inward(["MDM^T02"])
    assert stored is not None
    await journal.delivered(stored)
    await journal.reset_inward()
    await journal.keep_inward(long)
    for outcome in await read(journal):
        assert isinstance(outcome, Stored)
        assert len(outcome.crossing.key) <= MAX_KEY_CHARS
        assert msgpack.unpackb(outcome.crossing.body)["key"] == longest
    assert len(await read(journal)) == 2


async def test_an_operator_sends_again_or_gives_up_and_both_sides_know(opened: Open) -> None:
    """[LK23] A refused crossing gets the next number; one that waits becomes a gap; nothing else may be touched."""
    journal = opened()
    receipts = await put(journal, 1, 2, 3)
    ids = [one.sequence for one in receipts]
    await journal.settle(settled(1, 1, "refused", "invalid"), 9, {})
    assert await journal.resend(ids[0], "mended", "wang")
    assert not await journal.resend(ids[0], "mended", "wang"), "once"
    assert not await journal.resend(ids[1], "mended", "wang"), "it waits"
    assert await journal.discard(ids[1], "wrong_patient", "wang")
    assert not await journal.discard(ids[1], "wrong_patient", "wang")
    found = await read(journal)
    gaps = [(one.first, one.code) for one in found if isinstance(one, Gap)]
    assert gaps == [(1, "invalid"), (2, "discarded")]
    sent = {one.sequence: one for one in found if isinstance(one, Stored)}
    assert (sent[4].crossing, sent[4].source) == (crossing(1), "lis")
    assert sent[4].mark == next_mark(sent[3].mark, 4, "lis", "k1", sent[4].digest)
    told = [msgpack.unpackb(one.crossing.body) for one in sent.values() if one.crossing.kind == OPERATOR_KIND]
    assert [(one["action"], one["sequence"], one["reason"]) for one in told] == [
        ("resend", 1, "mended"), ("discard", 2, "wrong_patient"),
    ]  # fmt: skip
    assert not await journal.discard(sent[5].id, "test", "wang"), "what is told to the hub is not the operator's"
    assert (await put(journal, 1))[0].repeated, "a repeat of the source is known by the new number"
    await journal.settle([*settled(2, 2), *settled(4, 4)], 9, {})
    with contextlib.closing(sqlite3.connect(f"file:{journal._scribe._path}?mode=ro", uri=True)) as db:
        states = dict(db.execute("SELECT seq, state FROM outward WHERE seq < 5").fetchall())
        logged = db.execute("SELECT action, who FROM operation ORDER BY id").fetchall()
    assert states == {1: "resent", 2: "acknowledged", 3: "pending", 4: "acknowledged"}, "2 was on its way all the same"
    assert logged == [("resend", "wang"), ("discard", "wang")]
    await journal.keep_inward(inward(1))
    stored = await journal.next_inward(["MDM^T02"])
    assert stored is not None
    assert await journal.discard(stored.id, "obsolete", "wang")
    assert await journal.next_inward(["MDM^T02"]) is None
    outcomes = [one for one in await read(journal, 7) if isinstance(one, Stored)]
    assert msgpack.unpackb(outcomes[0].crossing.body)["code"] == "discarded"


def about(number: int, kind: str, *patient: tuple[str, str]) -> Crossing:
    return replace(crossing(number, kind=kind), patient=patient)


async def numbered(journal: Journal, first: int) -> list[tuple[int, str]]:
    return [(one.sequence, one.crossing.key) for one in await read(journal, first) if isinstance(one, Stored)]


async def test_what_waits_for_its_patient_goes_again_behind_the_registration(opened: Open) -> None:
    """[LK25] Only after an applied registration, only under the same system and number, in order, over a restart."""
    journal, mine = opened(), ("urn:mrn", "1")
    everybody = [(1, mine), (2, ("urn:other", "1")), (3, mine), (4, ("", "1")), (5, mine)]
    for number, patient in everybody:
        await journal.put("lis", about(number, "ORU^R01", patient), received_us=number)
    refused = [*settled(1, 4, "refused", PATIENT_INCOMPLETE), *settled(5, 5, "refused", "invalid")]
    assert await journal.settle(refused, 9, {}) == 0
    for number in (6, 7, 8):
        await journal.put("his", about(number, "ADT^A01", mine, ("urn:card", "K")), received_us=6)
    assert await journal.settle(settled(6, 6, "refused", PATIENT_INCOMPLETE), 9, {}) == 0, "it registers nobody"
    journal.put_event.clear()
    assert await journal.settle(settled(7, 7), 9, {}) == 2
    assert journal.put_event.is_set()
    assert await journal.settle(settled(7, 7), 9, {}) == 0, "told twice"
    await journal.close()
    journal = opened()
    assert await numbered(journal, 7) == [(8, "k8"), (9, "k1"), (10, "k3")]
    assert (await journal.put("lis", about(1, "ORU^R01", mine), received_us=1)).repeated
    again = [one for one in await read(journal, 9) if isinstance(one, Stored)]
    assert [one.received_us for one in again] == [1, 3], "as old as it is"
    assert await journal.settle([*settled(8, 8), *settled(9, 9, "refused", PATIENT_INCOMPLETE)], 9, {}) == 0
    await journal.put("his", about(11, "ADT^A08", mine), received_us=6)
    assert await journal.settle([*settled(10, 10), *settled(11, 11)], 9, {}) == 1, "refused again, it waits again"
    assert (await journal.level()).parked == 4


async def test_what_waits_for_its_patient_stays_where_there_is_no_room_or_no_leave(opened: Open) -> None:
    """[LK25] The next registration brings the next; what the policy no longer names is left to the operator."""
    mine = ("urn:mrn", "1")
    journal = opened(lambda source, _crossing: source != "ris", max_count=2)
    for number, source in ((1, "lis"), (2, "ris"), (3, "lis"), (4, "lis"), (5, "lis")):
        await journal.put(source, about(number, "ORU^R01", mine), received_us=1)
        await journal.settle(settled(number, number, "refused", PATIENT_INCOMPLETE), 9, {})
    assert await journal.discard(4, "obsolete", "wang")
    await journal.settle(settled(6, 6), 9, {})  # what the hub is told of it
    for number in (7, 10):
        await journal.put("his", about(number, "ADT^A08", mine), received_us=1)
        if number == 7:
            assert await journal.settle(settled(7, 7), 9, {}) == 2
            assert await numbered(journal, 8) == [(8, "k1"), (9, "k3")]
            assert await journal.settle(settled(8, 9), 9, {}) == 0
    assert await journal.settle(settled(10, 10), 9, {}) == 1
    assert await numbered(journal, 11) == [(11, "k5")]
    assert (await journal.level()).parked == 1, "the operator has it"
