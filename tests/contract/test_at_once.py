"""Transactions in one visit, on SQLite and on PostgreSQL: none lost, none doubled, each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from server.storage import audit
from server.storage.at_once import Hand, Prepared, _Waiting
from server.storage.database import Database
from server.storage.models import EventRow, Hospital
from tests.contract.server_postgres import postgres_folder, ready_file, ready_template, ready_url  # noqa: F401 - fixtures

ADD = Prepared(insert(Hospital))
NAME = Prepared(select(Hospital.name, Hospital.hub).where(Hospital.id == bindparam("wanted")))
KINDS = Prepared(select(EventRow.kind).where(EventRow.actor == bindparam("by")).order_by(EventRow.seq))


@pytest.fixture
async def database(ready_url: str) -> AsyncIterator[Database]:  # noqa: F811
    made = Database(ready_url)
    yield made
    verdict = await audit.verify(made, {})
    await made.close()
    assert verdict.broken is None, "every append is a whole link of the chain"


def note(kind: str) -> audit.Entry:
    return audit.Entry(kind=kind, at_ms=1, actor="one", body={"n": 1})


def add(hand: Hand, id_: str, name: str = "H") -> None:
    hand.rows(ADD, id=id_, name=name, name_latin="", hub=False)


async def kinds(database: Database) -> list[str]:
    return [row[0] for row in await database.at_once.read(lambda hand: hand.rows(KINDS, by="one"))]


async def test_what_was_written_is_read_as_a_session_reads_it(database: Database) -> None:
    await database.at_once.write(lambda hand: add(hand, "h1", "市立医院"))
    [(name, is_hub)] = await database.at_once.read(lambda hand: hand.rows(NAME, wanted="h1"))
    assert (name, bool(is_hub)) == ("市立医院", False)
    assert await database.at_once.read(lambda hand: hand.rows(NAME, wanted="h2")) == []
    async with database.read() as session:
        assert await session.scalar(select(Hospital.name).where(Hospital.id == "h1")) == "市立医院"


async def test_what_waits_together_is_committed_together_and_in_order(database: Database) -> None:
    hands: list[Hand] = []

    def job(hand: Hand, number: int) -> int:
        hands.append(hand)
        audit.append_at_once(hand, [note(f"k{number}")])
        return number

    numbers = range(40)
    done = await asyncio.gather(*(database.at_once.write(lambda hand, n=n: job(hand, n)) for n in numbers))
    assert done == list(numbers)
    assert await kinds(database) == [f"k{number}" for number in numbers]
    assert len(set(map(id, hands))) < 5, "forty appends shared a few transactions"


async def test_one_that_fails_takes_no_other_with_it_and_leaves_nothing(database: Database) -> None:
    def broken(hand: Hand) -> None:
        add(hand, "half")
        raise ValueError("mine")

    done = await asyncio.gather(
        database.at_once.write(lambda hand: audit.append_at_once(hand, [note("before")])),
        database.at_once.write(broken),
        database.at_once.write(lambda hand: audit.append_at_once(hand, [note("after")])),
        return_exceptions=True,
    )
    assert [type(one) for one in done] == [type(None), ValueError, type(None)]
    assert await kinds(database) == ["before", "after"]
    assert await database.at_once.read(lambda hand: hand.rows(NAME, wanted="half")) == []
    await database.at_once.write(lambda hand: add(hand, "next"))  # and the line goes on


async def test_an_error_names_the_statement_and_never_a_value(database: Database) -> None:
    """(G8)"""
    await database.at_once.write(lambda hand: add(hand, "h1"))
    with pytest.raises(IntegrityError) as told:
        await database.at_once.write(lambda hand: add(hand, "h1", "Zhang San"))
    assert "INSERT INTO hospital" in str(told.value)
    assert "Zhang" not in str(told.value)


async def test_a_cancelled_call_takes_nothing_back_and_closing_finishes_it(ready_url: str) -> None:  # noqa: F811
    database = Database(ready_url)
    writing = asyncio.create_task(database.at_once.write(lambda hand: audit.append_at_once(hand, [note("kept")])))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await database.close()
    await database.close()
    again = Database(ready_url)
    assert await kinds(again) == ["kept"]
    await again.close()


async def test_a_revoked_write_is_not_done_and_takes_no_other_with_it(database: Database) -> None:
    """Given up while it waits, and while it runs beside others."""

    def during(hand: Hand) -> None:
        add(hand, "during")
        two.cancel()  # PostgreSQL's jobs run in the event loop, SQLite's in a thread: there the flag alone is set

    def job(hand: Hand, name: str) -> None:
        audit.append_at_once(hand, [note(name)])

    async with database._turn:  # as a session that writes: what comes now waits
        one = asyncio.create_task(database.at_once.write(lambda hand: add(hand, "waits"), revocable=True))
        two = asyncio.get_running_loop().create_future()
        kept = asyncio.create_task(database.at_once.write(lambda hand: job(hand, "kept")))
        await asyncio.sleep(0)
        database.at_once._waiting.append(_Waiting(during, two, revocable=True))
        one.cancel()
    await kept
    await asyncio.gather(one, return_exceptions=True)
    assert await kinds(database) == ["kept"]
    for name in ("waits", "during"):
        assert await database.at_once.read(lambda hand, name=name: hand.rows(NAME, wanted=name)) == []  # type: ignore[misc]


async def test_the_row_that_everybody_locks_is_locked_last(database: Database) -> None:
    """As sessions do it: two nodes whose writes come in different order must not wait for each other in a circle."""
    order: list[str] = []
    shared: list[list[str]] = []

    def last(_hand: Hand, names: Sequence[str]) -> None:
        order.extend(f"{name} at the end" for name in names)
        shared.append(list(names))

    def job(hand: Hand, name: str) -> None:
        order.append(name)
        hand.at_end(last, [name])

    async with database._turn:
        both = [asyncio.create_task(database.at_once.write(lambda hand, n=n: job(hand, n))) for n in ("a", "b")]
        await asyncio.sleep(0)
    await asyncio.gather(*both)
    if database.is_sqlite:
        assert order == ["a", "b", "a at the end", "b at the end"]
        assert shared == [["a", "b"]], "once for both of them"
    assert all(order.index(name) < order.index(f"{name} at the end") for name in ("a", "b"))


async def test_sessions_and_visits_write_side_by_side(database: Database) -> None:
    async def by_session(number: int) -> None:
        async with database.write() as session:
            await audit.append(session, [note(f"s{number}")])

    async def at_once(number: int) -> None:
        await database.at_once.write(lambda hand: audit.append_at_once(hand, [note(f"v{number}")]))

    await asyncio.gather(*(one(number) for number in range(15) for one in (by_session, at_once)))
    assert sorted(await kinds(database)) == sorted(f"{who}{number}" for who in "sv" for number in range(15))
