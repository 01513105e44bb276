"""The simulated partner hospital behind the lock: a process with a gateway and the systems that stand inside.

A real `consilium gateway` (enrolled with a one-time code, one connection out), a laboratory that sends results over
MLLP now and then, and a FHIR server with what the hub does not have: the patients' older record. So in the running
consult results arrive through the lock, and the doctor can ask the patient's own hospital through it. Every
patient is a sample, and everything that comes is labelled test data [W9].

What these systems hold and say is `hospital_systems`; the process is started and supervised like the other simulators.
"""

import asyncio
import sys
from pathlib import Path

from server.bedside.client import Assignment
from server.clock import server_clock_us
from server.demo import child
from server.demo.hospital_place import needs_code
from server.demo.hospital_systems import MRN, NATIONAL_ID, Laboratory, earlier, record_server
from server.gateway.config import Folder, load_config
from server.gateway.configure import build_inside
from server.gateway.identity import enrol
from server.gateway.link import Timing
from server.gateway.program import Gateway
from server.lifecycle import free_port

HOST = "127.0.0.1"
_PEOPLE = '["identifier", "name", "gender", "birthDate", "active", "meta"]'
_CLINICAL = (
    '["meta", "status", "identifier", "category", "code", "subject", "effectiveDateTime", "issued", "value[x]", '
    '"interpretation", "referenceRange", "component", "result", "performer", "onsetDateTime", "clinicalStatus", '
    '"verificationStatus", "recordedDate", "medicationCodeableConcept", "authoredOn", "intent", "dosageInstruction", '
    '"type", "date", "description", "content"]'
)
_TYPES = ("Observation", "DiagnosticReport", "Condition", "MedicationRequest", "DocumentReference")
POLICY = f"""version = 1
[[out]]
kind = "ORU^R01"
sources = ["lis"]
[[out]]
kind = "ADT^A08"
sources = ["lis"]
types = ["Patient"]
[fields.Patient]
allow = {_PEOPLE}
""" + "".join(f"[fields.{kind}]\nallow = {_CLINICAL}\n" for kind in _TYPES) + f"""[questions]
types = [{", ".join(f'"{kind}"' for kind in _TYPES)}]
roles = ["doctor"]
organisations = ["*"]
identifier_systems = ["{MRN}"]
"""  # fmt: skip


async def work(assignment: Assignment) -> None:
    """The hospital until cancelled."""
    folder = Folder(Path(assignment.media_dir))
    if needs_code(folder.path, assignment.origin):
        await enrol(folder, hub=assignment.origin, code=assignment.secret, again=True)
    port = free_port(HOST, 0)
    async with record_server(HOST) as base:
        folder.policy.write_text(POLICY, "utf-8")
        folder.config.write_text(_config(port, base), "utf-8")
        gateway = Gateway(folder, build_inside(load_config(folder), folder), Timing(now_us=server_clock_us()))
        with folder.only_one():
            async with asyncio.TaskGroup() as group:
                group.create_task(gateway.run(asyncio.Event()))
                group.create_task(Laboratory(HOST, port, gateway.timing.now_us).run())


def _config(port: int, base: str) -> str:
    tests = [[system, value] for system, value in _test_patients()]
    return f"""[profile]
hospital = "demo-partner"
authorities = {{ HIS = "{MRN}", ID = "{NATIONAL_ID}" }}
primary_system = "{MRN}"
categories = {{ LIS = "laboratory" }}
test_patients = {tests}
[[adapter]]
type = "mllp"
name = "lis"
host = "{HOST}"
port = {port}
[responder]
type = "fhir"
base = "{base}"
"""


def _test_patients() -> list[tuple[str, str]]:
    known = [(one["system"], one["value"]) for person, *_rest in earlier() for one in person["identifier"]]
    return [*known, *Laboratory.visitor]


if __name__ == "__main__":
    sys.exit(child.main(work))
