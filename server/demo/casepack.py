"""The sample case pack: of the planned consult, sent by the partner's doctor the day before, and not complete.

As it is in life: the record is rich, the ECG of admission is old by now, today's potassium is not back yet. The
expert finds it at home beside the planned consult, and asks for what is missing with one click; Dr He's home page then
asks for it.
"""

from server.casepack.aio import packs
from server.casepack.aio.packs import Sender
from server.casepack.aio.tables import load_tables
from server.casepack.core.request import Request
from server.clock import NowMs
from server.storage.database import Database
from server.storage.models import Hospital, Person

SPECIALTY = "cardiology"
REQUEST = Request(
    reason="慢性心力衰竭加重，左束支传导阻滞，评估 CRT-D。 Worsening heart failure with left bundle branch block.",
    purpose="是否适合植入 CRT-D？术前用药如何调整？ Is CRT-D indicated, and how should medication be adjusted before?",
    summary="近两周活动后气促加重，夜间不能平卧，利尿后体重下降 2 kg。 "
    "More breathless for two weeks, orthopnoea; 2 kg lost after diuretics.",
    speciality="心律失常与器械植入 Electrophysiology and devices",
    title="主任医师 Chief physician",
)
"""Of a sample patient, in both languages, as everything of the demo."""


async def seed_case_pack(database: Database, now_ms: NowMs, *, consult: str, patient: str, sender: str) -> None:
    """Send the pack once; a consult that has one keeps it.

    Args:
        sender: id of the sending doctor.
    """
    table = load_tables()[SPECIALTY]
    async with database.write() as session:
        person = await session.get(Person, sender)
        assert person is not None, "seeded a moment ago"
        hospital = await session.get(Hospital, person.hospital_id)
        assert hospital is not None, "a person's"
        if await packs.latest(session, consult, patient) is not None:
            return
        by = Sender(
            person=person.id, name=person.name, hospital=hospital.id, hospital_name=hospital.name,
            actor=f"person:{person.id}",
        )  # fmt: skip
        at_ms = now_ms()
        draft = await packs.save_draft(session, consult, patient, table, REQUEST, (), by, at_ms)
        await packs.send(session, consult, patient, {SPECIALTY: table}, draft.content_hash, by, at_ms)
