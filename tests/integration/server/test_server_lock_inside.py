"""From a hospital's system to the hub's record and back: `gateway.toml`, MLLP, policy, journal, lock, record."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import hl7
from hl7.mllp import open_hl7_connection, start_hl7_server
from lock_kit import fill_hub, new_gateway_folder, quiet_port, running, start_hub, until, wall_us

from server.gateway.config import load_config
from server.gateway.configure import build_inside
from server.gateway.core.crossing import FHIR_JSON, Crossing
from server.gateway.hl7v2.outgoing import control_id
from tests.hl7v2_kit import PV1, RESULT, message

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
{EVERYTHING}
"""
OPINION = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": {"text": "会诊意见"},
                      "conclusion": "心梗", "subject": {"reference": "Patient/x"}}}
    ],
}  # fmt: skip


async def test_an_admission_and_a_result_reach_the_record_and_an_opinion_comes_back(tmp_path: Path) -> None:
    hub = await start_hub(tmp_path, await asyncio.to_thread(fill_hub, tmp_path / "filled"))
    port_in, port_out = quiet_port(), quiet_port()
    config = CONFIG.replace("PORT_IN", str(port_in)).replace("PORT_OUT", str(port_out))
    folder = await new_gateway_folder(hub, tmp_path / "g", POLICY, config)
    taken: list[hl7.Message] = []

    async def hospital(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                taken.append(await reader.readmessage())
                writer.writemessage(taken[-1].create_ack("AA"))
                await writer.drain()

    archive = await start_hl7_server(hospital, "127.0.0.1", port_out, encoding="utf-8")
    try:
        async with running(folder, build_inside(load_config(folder), folder)) as one:
            await one.connected()
            reader, writer = await open_hl7_connection("127.0.0.1", port_in, encoding="utf-8")
            answers = []
            for data in (message("ADT^A01", PV1), message("ORU^R01", *RESULT, control="C2"), message("ADT^A08")):
                writer.writemessage(hl7.parse(data.decode()))
                await writer.drain()
                answers.append([str(field) for field in (await reader.readmessage()).segment("MSA")[1:3]])
            writer.close()
            assert answers == [["AA", "C1"], ["AA", "C2"], ["AR", "C1"]], "the policy does not name A08"
            await one.drained()
            opinion = Crossing(
                kind="ORU^R01", key="opinion-1", patient=((SYSTEM, "10042"),), media_type=FHIR_JSON,
                body=json.dumps(OPINION).encode(), made_us=wall_us(),
            )  # fmt: skip
            await hub.send(one.gateway.identity.gateway, opinion)
            await until(lambda: taken)
            async with asyncio.timeout(30):
                while not await hub.all_settled():
                    await asyncio.sleep(0.01)
    finally:
        archive.close()
    crossed = [(1, "ADT^A01", "applied", ""), (2, "ORU^R01", "applied", ""), (3, "LOCK outcome", "applied", "")]
    assert await hub.crossed() == crossed
    rows = await hub.rows("SELECT type, count(*) FROM fhir_resource WHERE owner = 'north' GROUP BY type ORDER BY type")
    assert rows == [("Binary", 1), ("DiagnosticReport", 1), ("Encounter", 1), ("Observation", 4), ("Patient", 1)]
    assert (
        len({whose for (whose,) in await hub.rows("SELECT patient_id FROM fhir_resource WHERE owner = 'north'")}) == 1
    )
    assert [str(one.segment("MSH")[10]) for one in taken] == [control_id("opinion-1")]
    assert "心梗" in str(taken[0])
    assert await hub.audit_is_whole()
    await hub.stop()
