"""Load through the lock: messages that a gateway understands, a line that is cut, and what is counted as wrong."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from load_tests.plan.scenario import Scenario
from load_tests.plan.timetable import Planned, timetable
from load_tests.report.ledger import Ledger
from load_tests.run.cuttable import CuttableLine
from load_tests.run.hospitals import Hospitals
from load_tests.session.hospital import ID, KINDS, MRN, HospitalSystem
from load_tests.session.participant import Setting
from load_tests.session.world import ConsultSecrets, World
from tests.hl7v2_kit import Profile, converted, resources

CONSULT = ConsultSecrets(
    id="load-3", patient="load-patient-3", identifiers=("LOAD-00003", "ID-900003"), doctors=("d",),
    partner_doctors=(), rooms=(), devices=(), screens=(),
)  # fmt: skip
SCENARIO = {
    "name": "lock", "about": "", "duration_s": 10, "hospitals": 2,
    "population": [{"behaviour": "hospital_system"}, {"behaviour": "lock_reader"}],
}  # fmt: skip


def system(plan: Planned) -> HospitalSystem:
    world = World(password="-", consults=(CONSULT,))
    return HospitalSystem(plan, Setting("", world, None, Ledger(), hospitals=(1,)))  # type: ignore[arg-type]


async def test_what_a_hospitals_system_sends_is_taken_by_the_products_own_reader() -> None:
    """Ten messages of the mix: results, updates of the patient and orders, all of a test patient. [W9]"""
    plan = next(one for one in timetable(Scenario.model_validate(SCENARIO)) if one.behaviour.who == "hospital")
    profile = Profile(
        hospital="load-partner", authorities={"HIS": MRN, "ID": ID}, primary_system=MRN,
        test_patients=frozenset({(MRN, "LOAD-00003")}),
    )  # fmt: skip
    found = [converted(system(plan).message(f"C{number}", number), profile) for number in range(1, len(KINDS) + 1)]
    assert [one.kind for one in found] == list(KINDS)
    assert sum(len(resources(one, "DiagnosticReport")) for one in found) == KINDS.count("ORU^R01")
    assert len(resources(found[KINDS.index("ORM^O01")], "ServiceRequest")) == 1
    for one in found:
        (patient,) = resources(one, "Patient")
        assert {(each["system"], each["value"]) for each in patient["identifier"]} == {
            (MRN, "LOAD-00003"), (ID, "ID-900003"),
        }  # fmt: skip


def hub(folder: Path, numbers: list[tuple[int, str, str]], reports: int) -> Path:
    """A hub's database with these (number, kind, verdict) in its log, and so many reports."""
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "consilium.db")) as db:
        db.execute(
            "CREATE TABLE lock_crossing (id INTEGER PRIMARY KEY, gateway_id, sequence, last, source, kind, verdict,"
            " gateway_received_us, hub_committed_us)"
        )
        db.execute("CREATE TABLE fhir_resource (type TEXT)")
        for number, kind, verdict in numbers:
            at_us = 1_000_000 * number
            db.execute(
                "INSERT INTO lock_crossing VALUES (NULL, 'g', ?, ?, 'his', ?, ?, ?, ?)",
                (number, number, kind, verdict, at_us, at_us + 5_000),
            )
        db.executemany("INSERT INTO fhir_resource VALUES (?)", [("DiagnosticReport",)] * reports)
        db.commit()
    return folder


ORU, ADT = "ORU^R01", "ADT^A08"
WHOLE = [(1, ORU, "applied"), (2, ADT, "applied"), (3, ORU, "applied")]


@pytest.mark.parametrize(
    ("numbers", "reports", "taken", "unsure", "wrong"),
    [
        (WHOLE, 2, 3, 0, 0),
        (WHOLE, 2, 2, 1, 0),  # the answer to one was not heard any more
        (WHOLE, 2, 4, 0, 1),  # the hospital was told of one that is not here
        (WHOLE, 2, 2, 0, 1),  # here is one that nobody was told of
        (WHOLE, 1, 3, 0, 1),  # a result that is not in the record
        ([*WHOLE, (4, ADT, "repeated")], 2, 3, 0, 0),  # came again and changed nothing
        ([WHOLE[0], WHOLE[2], WHOLE[1]], 2, 3, 0, 2),  # another order: two numbers that do not follow
        ([WHOLE[0], WHOLE[2]], 2, 2, 0, 1),  # a number that was left out
        ([*WHOLE[:2], (3, ORU, "refused")], 1, 3, 0, 1),
    ],
)
async def test_each_message_is_where_it_should_be_once_and_in_order_or_it_is_counted(
    tmp_path: Path, numbers: list[tuple[int, str, str]], reports: int, taken: int, unsure: int, wrong: int
) -> None:
    ledger = Ledger()
    ledger.count("lock_taken", taken)
    ledger.count("lock_unsure", unsure)
    beside = Hospitals(hub(tmp_path / "hub", numbers, reports))
    assert await beside.audit(ledger) is None  # nobody has a gateway
    beside.all = [Idle(tmp_path)]  # type: ignore[list-item]
    beside.outages = [(2_900_000, 3_500_000)]
    assert await beside.audit(ledger) == wrong
    held = sum(verdict == "applied" and number == 3 for number, _, verdict in numbers)
    assert ledger.distributions["lock_ms"].count == sum(one[2] == "applied" for one in numbers) - held
    if held:
        assert ledger.distributions["lock_held_ms"].count == held


class Idle:
    """A gateway with nothing left to send."""

    waiting = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder


async def test_a_cut_line_is_silent_and_a_mended_one_begins_anew() -> None:
    """The request of a proxy's client arrives as a server's; what was open when the line was cut is reset."""
    words: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words.append((await reader.readuntil(b"\r\n")).decode().strip())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(1))
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, CuttableLine(port) as line, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"GET http://127.0.0.1:1/ws/lock HTTP/1.1\r\nx")
        assert await reader.readexactly(1) == b"x"
        assert words == ["GET /ws/lock HTTP/1.1"]
        line.cut()
        writer.write(b"lost")
        later_reader, later = await asyncio.open_connection("127.0.0.1", line.port)
        later.write(b"GET http://h/ HTTP/1.1\r\n")
        line.mend()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        with contextlib.suppress(ConnectionResetError):
            await later_reader.read()
        again_reader, again = await asyncio.open_connection("127.0.0.1", line.port)
        again.write(b"GET http://h/again HTTP/1.1\r\ny")
        assert await again_reader.readexactly(1) == b"y"
        for one in (writer, later, again):
            one.close()
    assert words[-1] == "GET /again HTTP/1.1"


def test_a_scenario_with_the_lock_needs_a_hospital() -> None:
    for wrong in ({"hospitals": 0}, {"hospitals": 0, "population": [{"behaviour": "lock_reader"}]}):
        with pytest.raises(ValueError, match="needs hospitals = 1"):
            Scenario.model_validate({**SCENARIO, **wrong})
    with pytest.raises(ValueError, match="cut_lock needs hospitals"):
        Scenario.model_validate({
            **SCENARIO, "hospitals": 0, "population": [{"behaviour": "doctor"}],
            "fault": [{"at_s": 1, "kind": "cut_lock"}],
        })  # fmt: skip
