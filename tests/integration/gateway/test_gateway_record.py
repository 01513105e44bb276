"""From the hospital's messages to the hub's record: every family, repeats, corrections, and the merge of an A40."""

import asyncio
import dataclasses
import json
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from server.gateway.adapters import fhir_news
from server.gateway.core.crossing import Crossing
from server.gateway.sealing import load_keys
from server.lock.aio.applying import Applying
from server.lock.aio.inbox import CrossingRefused, From, Inbox
from server.lock.aio.leaving import Leaving
from server.lock.aio.vault import KeyPlace, Vault
from server.lock.core.link import Arrived
from server.lock.core.wire import Cross
from server.record.aio.merge import merge_patient
from server.record.aio.search import search
from server.record.aio.store import patient_by_identifier, put_resource
from server.record.aio.writes import apply_bundle
from server.record.core.outcome import FhirRefusal
from server.record.core.reach import Reach
from server.storage import audit, schema
from server.storage.database import Database
from server.storage.lock_tables import GatewayRow, LockFile
from server.storage.models import Hospital
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import PatientId
from signaling.core.model import UnboundReason
from tests.hl7v2_kit import MRN, OLD, ORDER, PID, PROFILE, PV1, RESULT, SEEDS, converted, message, resources

ORIGIN = From(gateway="g1", hospital="h-wuzhen", stream="s", connection=1, sequence=1, source="his")
REACH = Reach.of_hospital("h-wuzhen")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables: made once, copied for each test."""
    path = tmp_path_factory.mktemp("empty") / "hub.db"

    async def make() -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        await schema.upgrade(database)
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(tmp_path: Path, empty: Path) -> AsyncIterator[Database]:
    for part in empty.parent.glob("hub.db*"):
        shutil.copy(part, tmp_path / part.name)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/hub.db")
    yield database
    assert (await audit.verify(database, {})).broken is None
    await database.close()


def vault_in(folder: Path) -> Vault:
    keys = folder / "lock-files.keys"
    return Vault(folder / "lock", KeyPlace(path=keys), load_keys(keys))


class Hub:
    """The record's end of the lock."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._apply = database, Applying(apply_bundle, vault_in(folder))
        self._at_ms = 1_000

    async def take(self, *crossings: Crossing, origin: From = ORIGIN) -> None:
        for crossing in crossings:
            self._at_ms += 1_000
            async with self._database.write() as session:
                await self._apply(session, crossing, origin, self._at_ms)

    async def hl7(self, *messages: bytes) -> None:
        await self.take(*(converted(one).crossing() for one in messages))

    async def rows(self, kind: str, **params: str) -> list[Any]:
        async with self._database.read() as session:
            return list((await search(session, kind, list(params.items()), reach=REACH)).rows)

    async def who(self, system: str, value: str) -> str | None:
        async with self._database.read() as session:
            return await patient_by_identifier(session, system, value)


async def test_every_family_is_filed_under_one_patient_and_a_repeat_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    hub = Hub(database, tmp_path)
    every = [seed for seed in SEEDS if b"A40" not in seed]
    await hub.hl7(*every)
    patient = await hub.who(MRN, "10042")
    assert patient is not None
    kinds = {e["resource"]["resourceType"] for seed in every for e in converted(seed).bundle["entry"]}
    before = {}
    for kind in sorted(kinds):
        rows = await hub.rows(kind)
        assert rows, kind
        assert {row.patient_id for row in rows} == {patient}, kind
        before |= {(kind, row.id): row.version for row in rows}
    assert sum(kind == "Patient" for kind, _ in before) == sum(kind == "Encounter" for kind, _ in before) == 1
    await hub.hl7(every[-2], every[-1])
    for (kind, id_), version in before.items():
        assert {row.id: row.version for row in await hub.rows(kind)}[id_] == version


async def test_a_result_before_its_admission_and_a_correction(database: Database, tmp_path: Path) -> None:
    """A PID in a result makes sure of the patient; it never overwrites the registration."""
    hub = Hub(database, tmp_path)
    scant = PID.split("||Xinhua")[0].replace("~Wang^Xiaoming^^^^^L^A", "") + "||||||||A778|330402197803020011"
    await hub.hl7(message("ORU^R01", *RESULT, pid=scant))
    first = await hub.who(MRN, "10042")
    await hub.hl7(message("ADT^A01", PV1), message("ORU^R01", *RESULT, pid=scant, control="C2"))
    assert await hub.who(MRN, "10042") == first
    (patient,) = await hub.rows("Patient")
    assert "Jiaxing" in patient.json
    creatinine = [line.replace("|88.5|", "|91.25|").replace("N|||F", "N|||C") for line in RESULT]
    await hub.hl7(message("ORU^R01", *creatinine, control="C3"))
    (found,) = await hub.rows("Observation", code="http://loinc.org|2160-0")
    assert found.version == 2
    assert "91.25" in found.json


async def test_a40_moves_the_retired_record_to_the_survivor(database: Database, tmp_path: Path) -> None:
    hub = Hub(database, tmp_path)
    old = PID.replace("10042^^^HIS^MR", "77^^^OLDHIS^MR").replace("330402197803020011", "").replace("A778", "A1")
    await hub.hl7(message("ADT^A04", PV1), message("ADT^A04", pid=old), message("ORU^R01", *RESULT, pid=old))
    survivor, retired = await hub.who(MRN, "10042"), await hub.who(OLD, "77")
    assert {row.patient_id for row in await hub.rows("Observation")} == {retired}
    merge = message("ADT^A40", "MRG|77^^^OLDHIS^MR")
    await hub.hl7(merge, merge)
    assert {row.patient_id for row in await hub.rows("Observation")} == {survivor}
    await hub.hl7(message("ADT^A40", "MRG|999^^^OLDHIS^MR", control="C9"))  # of a record that never came here


async def test_the_old_number_of_a_merged_patient_leads_to_the_survivor(database: Database, tmp_path: Path) -> None:
    """Chains of merges are followed; a result, a correction, a registration under the old number: nothing of it goes
    back to the retired record, and that record is not brought back."""
    hub = Hub(database, tmp_path)
    third = "urn:oid:2.999.9"
    old = PID.replace("10042^^^HIS^MR", "77^^^OLDHIS^MR").replace("330402197803020011", "").replace("A778", "A1")
    last = PID.replace("10042^^^HIS^MR", "S-1^^^&2.999.9&ISO^SB").replace("330402197803020011", "")
    await hub.hl7(message("ADT^A04", PV1), message("ADT^A04", pid=old), message("ORU^R01", *RESULT, pid=old))
    await hub.hl7(message("ADT^A40", "MRG|77^^^OLDHIS^MR"), message("ADT^A04", pid=last, control="C3"))
    await hub.hl7(message("ADT^A40", "MRG|10042^^^HIS^MR", pid=last))
    survivor = await hub.who(third, "S-1")
    assert {row.patient_id for row in await hub.rows("Observation")} == {survivor}
    corrected = [line.replace("|88.5|", "|91.25|").replace("N|||F", "N|||C") for line in RESULT]
    moved = old.replace("Jiaxing", "Tongxiang")
    await hub.hl7(message("ORU^R01", *corrected, pid=old, control="C4"), message("ADT^A08", PV1, pid=moved))
    found = await hub.rows("Observation", code="http://loinc.org|2160-0")
    assert [(row.patient_id, "91.25" in row.json) for row in found] == [(survivor, True)]
    people = {row.id: json.loads(row.json) for row in await hub.rows("Patient")}
    assert [one["active"] for id_, one in people.items() if id_ != survivor] == [False, False]
    assert not any("Tongxiang" in json.dumps(one) for one in people.values())
    for again in (
        message("ADT^A40", "MRG|S-1^^^&2.999.9&ISO^SB", pid=old),
        message("ADT^A40", "MRG|S-1^^^&2.999.9&ISO^SB"),
    ):
        with pytest.raises(CrossingRefused):  # a circle
            await hub.hl7(again)
    async with database.write() as session:
        old_ids = [id_ for id_ in people if id_ != survivor]
        for retired in old_ids:
            with pytest.raises(FhirRefusal):
                await merge_patient(session, survivor=retired, merged=str(survivor), actor="a", at_ms=1)
    assert {row.patient_id for row in await hub.rows("Observation")} == {survivor}


async def test_a_merge_by_several_numbers_finds_every_record_and_one_cut_by_the_policy_is_refused(
    database: Database, tmp_path: Path
) -> None:
    hub = Hub(database, tmp_path)
    old = PID.replace("10042^^^HIS^MR", "77^^^OLDHIS^MR").replace("330402197803020011", "").replace("A778", "A1")
    await hub.hl7(message("ADT^A04", PV1), message("ADT^A04", pid=old), message("ORU^R01", *RESULT, pid=old))
    crossing = converted(message("ADT^A40", "MRG|4711^^^HIS^MR~77^^^OLDHIS^MR")).crossing()
    bundle = json.loads(crossing.body)
    for entry in bundle["entry"]:
        entry["resource"].pop("link", None)
    with pytest.raises(CrossingRefused):
        await hub.take(dataclasses.replace(crossing, body=json.dumps(bundle).encode()))
    await hub.take(crossing)
    assert {row.patient_id for row in await hub.rows("Observation")} == {await hub.who(MRN, "10042")}


async def test_an_empty_number_is_nobodys(database: Database, tmp_path: Path) -> None:
    """`system|` asks for everybody who has a number there: not even the only patient is changed by it."""
    hub = Hub(database, tmp_path)
    await hub.hl7(message("ADT^A04", PV1))
    crossing = converted(message("ADT^A08", PV1)).crossing()
    bundle = json.loads(crossing.body)
    (entry,) = (one for one in bundle["entry"] if one["request"]["url"].startswith("Patient?"))
    entry["request"] |= {"method": "PUT", "url": f"Patient?identifier={MRN}|"}
    entry["request"].pop("ifNoneExist", None)
    entry["resource"]["gender"] = "other"
    with pytest.raises(CrossingRefused):
        await hub.take(dataclasses.replace(crossing, body=json.dumps(bundle).encode()))
    (row,) = await hub.rows("Patient")
    assert row.version == 1


async def test_an_adt_leaves_what_it_does_not_say_and_deletes_what_it_says(database: Database, tmp_path: Path) -> None:
    """Empty leaves, "" deletes; what another source wrote (photo, link, another system's number) stays."""
    hub = Hub(database, tmp_path)
    await hub.hl7(message("ADT^A01", PV1))
    async with database.write() as session:
        (row,) = (await search(session, "Patient", [], reach=REACH)).rows
        whole = json.loads(row.json) | {"photo": [{"title": "bedside"}]}
        whole["identifier"].append({"system": "urn:card", "value": "K-1"})
        await put_resource(session, whole, actor="desk", at_ms=5_000, owner="h-wuzhen")
    thin = "PID|1||10042^^^HIS^MR||王^小明^^^^^L^I||19780302|1||||" + '|""'
    discharge = "PV1|1" + "|" * 18 + "V55^^^HIS^VN" + "|" * 26 + "20260314170000"
    await hub.hl7(
        message("ADT^A08", pid=thin), message("ADT^A03", discharge, pid=thin), message("ADT^A08", PV1, pid=thin)
    )
    (row,) = await hub.rows("Patient")
    patient = json.loads(row.json)
    assert patient["photo"] == [{"title": "bedside"}]
    assert {one["value"] for one in patient["identifier"]} >= {"10042", "K-1", "330402197803020011"}
    assert patient["address"][0]["city"] == "Jiaxing", "empty leaves"
    assert "telecom" not in patient, "two quotes delete"
    assert "hl7v2-null" not in row.json
    (row,) = await hub.rows("Encounter")
    visit = json.loads(row.json)
    assert visit["period"] == {"start": "2026-03-14T09:00:00+08:00", "end": "2026-03-14T17:00:00+08:00"}
    assert (visit["status"], visit["class"]["code"]) == ("finished", "IMP"), (
        "an update does not reopen a finished visit"
    )
    assert visit["participant"][0]["individual"]["display"] == "Wei Li"
    await hub.hl7(message("ADT^A13", PV1, pid=thin))
    (row,) = await hub.rows("Encounter")
    assert (json.loads(row.json)["status"], json.loads(row.json)["period"]) == (
        "in-progress", {"start": "2026-03-14T09:00:00+08:00"}
    )  # fmt: skip


def stated(status: str, value: str, report: str) -> list[str]:
    """The result with another OBX-11, value and OBR-25."""
    lines = [line.replace("|88.5|", f"|{value}|").replace("N|||F", f"N|||{status}") for line in RESULT[:2]]
    return [lines[0].replace("||HM|F|", f"||HM|{report}|"), lines[1]]


async def test_nothing_older_replaces_a_result_that_stands(database: Database, tmp_path: Path) -> None:
    """Table 0085: a late preliminary does not replace a final one, a correction does, W retracts for good."""
    hub = Hub(database, tmp_path)

    async def now() -> tuple[str, bool, str]:
        (row,) = await hub.rows("Observation", code="http://loinc.org|2160-0")
        (report,) = await hub.rows("DiagnosticReport")
        one = json.loads(row.json)
        return one["status"], f'"value":{value}' in row.json, json.loads(report.json)["status"]

    value = "88.5"
    await hub.hl7(message("ADT^A04", PV1), message("ORU^R01", *stated("F", "88.5", "F"), control="1"))
    await hub.hl7(message("ORU^R01", *stated("P", "70", "P"), control="2"))
    assert await now() == ("final", True, "final")
    value = "91"
    await hub.hl7(message("ORU^R01", *stated("C", "91", "C"), control="3"))
    assert await now() == ("corrected", True, "corrected")
    older = [line.replace("20260314093000", "20260314090000") for line in stated("F", "88.5", "F")]
    await hub.hl7(message("ORU^R01", *older, control="4"))
    assert (await now())[2] == "corrected", "a report that is older by its own time"
    await hub.hl7(
        message("ORU^R01", *stated("W", "91", "C"), control="5"),
        message("ORU^R01", *stated("F", "91", "C"), control="6"),
    )
    assert (await now())[:2] == ("entered-in-error", True), "a repeat of what was withdrawn does not bring it back"


async def test_pages_of_a_late_preliminary_report_and_a_bare_cancellation_take_nothing_away(
    database: Database, tmp_path: Path
) -> None:
    hub = Hub(database, tmp_path)
    pdf = "OBX|1|ED|PDF^Report^L||^application^pdf^Base64^{}||||||{}"
    final, early = b64encode(b"%PDF-1.7 final").decode(), b64encode(b"%PDF-1.7 early").decode()
    obr = RESULT[0]
    await hub.hl7(message("ADT^A04", PV1), message("ORU^R01", obr, pdf.format(final, "F"), RESULT[1], control="1"))
    late = obr.replace("||HM|F|", "||HM|P|")
    await hub.hl7(message("ORU^R01", late, pdf.format(early, "P"), control="2"))
    assert [final in row.json for row in await hub.rows("Binary")] == [True]
    await hub.hl7(message("ORU^R01", obr.replace("||HM|F|", "||HM|C|"), RESULT[-1], control="3"))
    (report,) = await hub.rows("DiagnosticReport")
    assert len(json.loads(report.json)["result"]) == 2, "one corrected line does not end the other lines of a report"
    await hub.hl7(message("ORM^O01", *ORDER, control="4"), message("ORM^O01", "ORC|CA|P9^HIS", control="5"))
    (row,) = await hub.rows("ServiceRequest")
    order = json.loads(row.json)
    assert (order["status"], order["code"]["coding"][0]["code"]) == ("revoked", "24725-4")


async def test_another_hospital_cannot_write_into_this_record(database: Database, tmp_path: Path) -> None:
    hub = Hub(database, tmp_path)
    await hub.hl7(message("ADT^A04", PV1), message("ORU^R01", *RESULT))
    mine = converted(message("ORU^R01", *RESULT)).crossing()
    with pytest.raises(CrossingRefused):
        await hub.take(mine, origin=dataclasses.replace(ORIGIN, hospital="h-other"))
    assert {row.version for row in await hub.rows("Observation")} == {1}
    assert len(resources(converted(message("ORU^R01", *RESULT)), "Observation")) == len(await hub.rows("Observation"))


async def enrolled(database: Database) -> None:
    """The gateway's own row."""
    async with database.write() as session:
        session.add(Hospital(id="h-wuzhen", name="乌镇", hub=False))
        await session.flush()
        session.add(
            GatewayRow(
                id="g1", hospital_id="h-wuzhen", name="g", public_key=bytes(32), enrolled_at_ms=1, connection=1,
                stream="s", mark=bytes(32), outbox_mark=bytes(32),
            )
        )  # fmt: skip


class Ward:
    """What ends bindings; can be unable to."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.busy = False

    async def end_bindings(self, patient: PatientId, reason: UnboundReason) -> int:
        if self.busy:
            raise Refusal(ErrorCode.CONFLICT, "busy")
        self.ended.append((patient, reason.value))
        return 1


async def test_a_transfer_and_a_discharge_end_bindings_before_they_count_as_taken(
    database: Database, tmp_path: Path
) -> None:
    """[W21] A hub that cannot end them now does not take the message, which comes again."""
    hub, ward = Hub(database, tmp_path), Ward()
    await hub.hl7(message("ADT^A01", PV1))
    patient = await hub.who(MRN, "10042")
    await enrolled(database)
    inbox = Inbox(
        database, Applying(apply_bundle, vault_in(tmp_path)), lambda: 9_000_000, Leaving(database, ward.end_bindings)
    )
    for sequence, event in enumerate(("A08", "A02", "A03"), 1):
        crossing = converted(message(f"ADT^{event}", PV1, control=event)).crossing()
        origin = dataclasses.replace(ORIGIN, sequence=sequence)
        if event == "A03":
            ward.busy = True
            with pytest.raises(OSError, match="bindings"):
                await inbox.commit(origin, arrived(crossing, sequence))
            assert '"in-progress"' in (await hub.rows("Encounter"))[0].json, "nothing was taken"
            ward.busy = False
        verdict = await inbox.commit(origin, arrived(crossing, sequence))
        assert verdict[0] == "applied"
    assert ward.ended == [(patient, "transferred"), (patient, "discharged")]
    assert '"finished"' in (await hub.rows("Encounter"))[0].json


def arrived(crossing: Crossing, sequence: int) -> Arrived:
    frame = Cross(
        sequence=sequence, source="his", kind=crossing.kind, key=crossing.key, patient=crossing.patient, about=(),
        media_type=crossing.media_type, made_us=crossing.made_us, received_us=1, journaled_us=2, sent_us=3,
        size=len(crossing.body), digest=bytes(32), mark=bytes(32), body=crossing.body,
    )  # fmt: skip
    return Arrived(frame=frame, body=crossing.body, received_us=8_000_000)


async def test_a_result_that_waited_for_its_patient_does_not_undo_what_came_meanwhile(
    database: Database, tmp_path: Path
) -> None:
    """[LK25] HL7 v2 need not say when a result was issued: the hub goes by when it had refused the older one."""
    hub = Hub(database, tmp_path)
    await enrolled(database)
    clock = iter(range(1_000_000, 10**9, 1_000_000))
    inbox = Inbox(database, Applying(apply_bundle, vault_in(tmp_path)), lambda: next(clock))
    bare = PID.split("||19780302")[0]
    undated = [line.replace("|20260314093000|", "||") for line in RESULT]
    corrected = [line.replace("|88.5|", "|91.25|").replace("|F|||2026", "|C|||2026") for line in undated[:2]]
    early, late = message("ORU^R01", *undated, pid=bare), message("ORU^R01", *corrected, pid=bare, control="C3")
    told = []
    for sequence, data in enumerate((early, message("ADT^A04", PV1, control="C2"), late, early, early), 1):
        verdict = await inbox.commit(
            dataclasses.replace(ORIGIN, sequence=sequence), arrived(converted(data).crossing(), sequence)
        )
        told.append(verdict[:2])
    assert told == [("refused", "patient_incomplete"), *[("applied", "")] * 3, ("repeated", "")]
    found = [(json.loads(row.json)["status"], "91.25" in row.json) for row in await hub.rows("Observation")]
    assert sorted(found) == [("corrected", False), ("corrected", True), ("final", False), ("final", False)]
    (report,) = await hub.rows("DiagnosticReport")
    assert len(json.loads(report.json)["result"]) == 4, "lines that only the older one has"
    assert {row.patient_id for row in await hub.rows("Observation")} == {await hub.who(MRN, "10042")}


async def test_a_patient_of_one_number_is_there_by_the_visit_and_a_thinner_one_is_not(
    database: Database, tmp_path: Path
) -> None:
    """[W18] One number and nothing else could not be shown: refused, and taken once a registration came."""
    hub = Hub(database, tmp_path)
    thin = "PID|1||10042^^^HIS^MR||Wang^Xiaoming||19780302|1"
    with pytest.raises(CrossingRefused, match="two identifiers"):
        await hub.hl7(message("ORU^R01", *RESULT, pid=thin))
    assert not await hub.rows("Patient")
    await hub.hl7(message("ADT^A01", PV1, pid=thin), message("ORU^R01", *RESULT, pid=thin))
    again = PV1.replace("V55", "V56")
    await hub.hl7(message("ADT^A01", again, pid=thin, control="C2"))
    (row,) = await hub.rows("Patient")
    assert [one["value"] for one in json.loads(row.json)["identifier"]] == ["10042", "V56"]
    assert len(await hub.rows("Observation")) == 4


async def test_news_of_a_fhir_server_are_versions_of_one_resource_and_deletions_stay_marked(
    database: Database, tmp_path: Path
) -> None:
    hub = Hub(database, tmp_path)
    await hub.hl7(message("ADT^A04", PV1))
    who = {
        "resourceType": "Patient", "id": "p1", "name": [{"text": "王小明"}], "birthDate": "1978-03-02",
        "identifier": [{"system": MRN, "value": "10042"}, {"system": OLD, "value": "77"}],
        "generalPractitioner": [{"reference": "Practitioner/9"}], "maritalStatus": {"text": "single"},
    }  # fmt: skip
    person = fhir_news.person_of(who, (MRN, OLD))

    def news(resource: dict[str, Any], version: str) -> Crossing:
        return fhir_news.crossing_of(
            resource, person, name="emr", base="http://emr", profile=PROFILE, version=version, binaries={}
        )

    one = {
        "resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "K"}, "valueString": "4.1",
        "subject": {"reference": "Patient/p1"}, "encounter": {"reference": "Encounter/e1"},
    }  # fmt: skip
    await hub.take(news(one, "1"), news(who, "1"), news(one | {"valueString": "4.3"}, "2"))
    (row,) = await hub.rows("Observation")
    assert (row.version, row.patient_id, "4.3" in row.json) == (2, await hub.who(MRN, "10042"), True)
    (row,) = await hub.rows("Patient")
    patient = json.loads(row.json)
    assert patient["maritalStatus"] == {"text": "single"}
    assert patient["address"][0]["city"] == "Jiaxing", "what the other source said stays"
    assert "generalPractitioner" not in patient
    await hub.take(news(fhir_news.retracted(one | {"valueString": "4.3"}), "deleted-3"))
    (row,) = await hub.rows("Observation")
    assert json.loads(row.json)["status"] == "entered-in-error"
    await hub.take(news(one | {"valueString": "4.3"}, "4"))  # made again on the hospital's server
    (row,) = await hub.rows("Observation")
    assert json.loads(row.json)["status"] == "final"
    # R4 section 2.24.0.1: 7.40 says more than 7.4. When it comes, and when something else of the resource changes.
    coming = news(
        {name: value for name, value in one.items() if name != "valueString"} | {"valueQuantity": {"value": 7.4}}, "5"
    )
    await hub.take(dataclasses.replace(coming, body=coming.body.replace(b"7.4", b"7.40")))
    (row,) = await hub.rows("Observation")
    assert '"value":7.40' in row.json


async def test_the_number_of_one_and_the_name_and_birth_date_of_another_is_nobodys_result(
    database: Database, tmp_path: Path
) -> None:
    """[W22] A number mistyped at the cart or in the laboratory; a corrected date or spelling alone is none."""
    hub = Hub(database, tmp_path)
    await hub.hl7(message("ADT^A04", PV1))
    other = PID.replace("王^小明", "李^娜").replace("Wang^Xiaoming", "Li^Na").replace("19780302", "19550101")
    with pytest.raises(CrossingRefused, match="other_person"):
        await hub.hl7(message("ORU^R01", *RESULT, pid=other))
    await enrolled(database)
    ecg = Crossing(
        kind="DICOM ECG", key="1", patient=((MRN, "10042"),), media_type="application/dicom", body=b"x", made_us=0
    )
    for number, about in enumerate(((), (("birth_date", "1955-01-01"), ("patient_name", "Li Na=李娜")))):
        await hub.take(dataclasses.replace(ecg, about=about), origin=dataclasses.replace(ORIGIN, sequence=number))
    async with database.read() as session:
        files = (await session.scalars(select(LockFile).order_by(LockFile.sequence))).all()
        assert [one.patient_id for one in files] == [await hub.who(MRN, "10042"), None]
    await hub.hl7(message("ORU^R01", *RESULT, pid=PID.replace("19780302", "19780203")))
    assert len(await hub.rows("Observation")) == 4
    # Brought in unknown, now with a name: what the laboratory still sends under the old one is this patient's.
    await hub.hl7(message("ADT^A08", pid=other, control="C2"))
    late = [line.replace("F77", "F78") for line in RESULT]
    await hub.hl7(message("ORU^R01", *late, control="C3"), message("ORU^R01", *late, control="C4", pid=other))
    assert len(await hub.rows("Observation")) == 8
    third = PID.replace("王^小明", "赵^敏").replace("Wang^Xiaoming", "Zhao^Min").replace("19780302", "20010101")
    with pytest.raises(CrossingRefused, match="other_person"):
        await hub.hl7(message("ORU^R01", *RESULT, pid=third))
