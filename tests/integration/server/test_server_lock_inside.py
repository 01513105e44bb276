"""From a hospital's system to the hub's record and back: `gateway.toml`, MLLP, policy, journal, lock, record.

A result that comes before anything that says who its patient is (no birth date, one number) is refused, and crosses by
itself when the admission has. [LK25]
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import hl7
from hl7.mllp import open_hl7_connection, start_hl7_server
from lock_kit import fill_hub, new_gateway_folder, quiet_port, running, start_hub, until, wall_us

from server.gateway.adapters.counts import HELD_UP
from server.gateway.config import load_config
from server.gateway.configure import build_inside
from server.gateway.core.crossing import FHIR_JSON, Crossing
from server.gateway.hl7v2.outgoing import control_id
from tests.hl7v2_kit import PID, PV1, RESULT, message

SYSTEM = "urn:north:mrn"
CONFIG = f"""
[profile]
hospital = "north"
authorities = {{ HIS = "{SYSTEM}" }}
national_id_system = "urn:cn:id"
[[adapter]]
type = "mllp"
name = "his"
host = "127.0.0.1"
port = PORT_IN
[[inlet]]
type = "mllp"
name = "to-his"
host = "127.0.0.1"
port = PORT_OUT
application = "HIS"
authorities = {{ "{SYSTEM}" = "HIS" }}
"""
EVERYTHING = """
[fields.Patient]
allow = ["meta", "identifier", "name", "gender", "birthDate", "active"]
[fields.Encounter]
allow = ["meta", "identifier", "status", "class", "subject", "period"]
[fields.DiagnosticReport]
allow = ["meta", "status", "code", "subject", "encounter", "result", "effectiveDateTime", "issued", "identifier"]
[fields.Observation]
allow = ["meta", "status", "code", "subject", "encounter", "effectiveDateTime", "value[x]", "category"]
[fields.Binary]
allow = ["meta", "contentType", "securityContext", "data"]
"""
POLICY = f"""
version = 1
[[out]]
kind = "ADT^A01"
identifier_systems = ["{SYSTEM}", "urn:cn:id"]
[[out]]
kind = "ORU^R01"
identifier_systems = ["{SYSTEM}", "urn:cn:id"]
[[in]]
kind = "ORU^R01"
[[in]]
kind = "MDM^T02"
{EVERYTHING}
"""
LETTER = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "DocumentReference", "id": "d", "status": "current", "docStatus": "final",
                      "content": [{"attachment": {"data": base64.b64encode(b"%PDF-1.7 letter").decode()}}]}}
    ],
}  # fmt: skip
OPINION = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": {"text": "会诊意见"},
                      "conclusion": "心梗", "subject": {"reference": "Patient/x"}}}
    ],
}  # fmt: skip


async def test_an_admission_and_a_result_reach_the_record_and_opinions_come_back_through_outage_and_nak(
    tmp_path: Path,
) -> None:
    hub = await start_hub(tmp_path, await asyncio.to_thread(fill_hub, tmp_path / "filled"))
    port_in, port_out = quiet_port(), quiet_port()
    config = CONFIG.replace("PORT_IN", str(port_in)).replace("PORT_OUT", str(port_out))
    folder = await new_gateway_folder(hub, tmp_path / "g", POLICY, config)
    taken: list[hl7.Message] = []

    script = ["AA", "AR", "", "AE", "AA"]
    """Answers to what comes, in order; empty hangs up instead."""

    async def hospital(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                taken.append(await reader.readmessage())
                if answer := script.pop(0):
                    writer.writemessage(taken[-1].create_ack(answer))
                    await writer.drain()
                else:
                    writer.close()

    archive: asyncio.Server | None = None
    try:
        async with running(folder, build_inside(load_config(folder), folder)) as one:
            await one.connected()
            reader, writer = await open_hl7_connection("127.0.0.1", port_in, encoding="utf-8")
            answers = []
            urgent = [line.replace("F77^LIS", "F76^LIS") for line in RESULT[:2]]
            before = message("ORU^R01", *urgent, control="C0", pid=PID.split("||19780302")[0])
            results = "SELECT 1 FROM lock_crossing WHERE kind = 'ORU^R01' AND verdict = '{}'".format
            for data, crosses in (
                (before, results("refused")),
                (message("ADT^A01", PV1), results("applied")),
                (message("ORU^R01", *RESULT, control="C2"), ""),
                (message("ADT^A08"), ""),
            ):
                writer.writemessage(hl7.parse(data.decode()))
                await writer.drain()
                answers.append([str(field) for field in (await reader.readmessage()).segment("MSA")[1:3]])
                if crosses:
                    await until(lambda query=crosses: hub.rows(query))
            writer.close()
            assert answers == [["AA", "C0"], ["AA", "C1"], ["AA", "C2"], ["AR", "C1"]], "the policy does not name A08"
            await one.drained()
            for key, kind in (("opinion-1", "ORU^R01"), ("opinion-2", "ORU^R01"), ("letter-3", "MDM^T02")):
                crossing = Crossing(
                    kind=kind, key=key, patient=((SYSTEM, "10042"),), media_type=FHIR_JSON,
                    body=json.dumps(OPINION if kind == "ORU^R01" else LETTER).encode(), made_us=wall_us(),
                )  # fmt: skip
                await hub.send(one.gateway.identity.gateway, crossing)
            # Nobody listens yet: they wait at the gateway, and the interface that stands still is named.
            await until(lambda: HELD_UP.labels("to-his")._value.get() > 0)
            async with asyncio.timeout(60):
                while (await one.gateway.journal.level()).inward_waiting < 3:
                    await asyncio.sleep(0.01)
            assert not taken
            archive = await start_hl7_server(hospital, "127.0.0.1", port_out, encoding="utf-8")
            async with asyncio.timeout(60):
                while not await hub.all_settled():
                    await asyncio.sleep(0.01)
    finally:
        if archive is not None:
            archive.close()
    crossed = [
        (1, "ORU^R01", "refused", "patient_incomplete"), (2, "ADT^A01", "applied", ""),
        (3, "ORU^R01", "applied", ""), (4, "ORU^R01", "applied", ""),
    ]  # fmt: skip
    outcomes = [(number, "LOCK outcome", "applied", "") for number in (5, 6, 7)]
    assert await hub.crossed() == crossed + outcomes
    sent = "SELECT key, state, code, body IS NULL FROM lock_outbox ORDER BY sequence"
    assert [row[1:] for row in await hub.rows(sent)] == [
        ("delivered", "", 1), ("refused", "hospital_rejects", 1), ("delivered", "", 1)
    ]  # fmt: skip
    rows = await hub.rows("SELECT type, count(*) FROM fhir_resource WHERE owner = 'north' GROUP BY type ORDER BY type")
    assert rows == [("Binary", 1), ("DiagnosticReport", 2), ("Encounter", 1), ("Observation", 5), ("Patient", 1)]
    assert (
        len({whose for (whose,) in await hub.rows("SELECT patient_id FROM fhir_resource WHERE owner = 'north'")}) == 1
    )
    ids = [control_id(key) for key in ("opinion-1", "opinion-2", "letter-3", "letter-3", "letter-3")]
    assert [str(one.segment("MSH")[10]) for one in taken] == ids, "in order; a repeat under its own control id"
    assert "心梗" in str(taken[0])
    assert str(taken[-1].segment("MSH")[9]) == "MDM^T02^MDM_T02"
    assert base64.b64decode(str(taken[-1].segment("OBX")[5][0][4])) == b"%PDF-1.7 letter"
    assert await hub.audit_is_whole()
    await hub.stop()
