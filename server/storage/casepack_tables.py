"""Tables of case packs: what is being prepared, what was sent, and what was asked for.

A sent pack is only ever inserted. What is being prepared is one row for each hospital of a consult, so that nobody
sees another's draft.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Hash, Key


class CasePackDraft(Base):
    """What one hospital prepares for one patient of a consult; gone from sight once it was sent and nothing changed."""

    __tablename__ = "case_pack_draft"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(Key, primary_key=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"), primary_key=True)
    specialty: Mapped[str] = mapped_column(Key)
    request: Mapped[str] = mapped_column(Text)
    """JSON of `server.casepack.core.request.Request`."""
    left_out: Mapped[str] = mapped_column(Text)
    """JSON list of ``Type/id`` that the sender has taken out."""
    content_hash: Mapped[str] = mapped_column(Hash)
    """Of what its author saw last."""
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"))
    at_ms: Mapped[int] = mapped_column(BigInteger)


class CasePack(Base):
    """One sent version; never changed."""

    __tablename__ = "case_pack"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    """Also of its Composition, ServiceRequest and Provenance."""
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    patient_id: Mapped[str] = mapped_column(Key)
    version: Mapped[int] = mapped_column(Integer)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"))
    specialty: Mapped[str] = mapped_column(Key)
    request: Mapped[str] = mapped_column(Text)
    content_hash: Mapped[str] = mapped_column(Hash)
    findings: Mapped[str] = mapped_column(Text)
    """JSON: the parts of the table as they stood at sending."""
    lines: Mapped[str] = mapped_column(Text)
    """JSON: what a page shows of it."""
    bundle: Mapped[str] = mapped_column(Text)
    """The FHIR document as it was sent."""
    sha256: Mapped[str] = mapped_column(Hash)
    """Of ``bundle``, ``lines``, ``findings`` and ``request``; also in the audit chain."""
    sent_at_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("ux_case_pack_version", "consult_id", "patient_id", "version", unique=True),)


class CaseAsk(Base):
    """One part that was asked for at a hospital; its Task in the record says the same."""

    __tablename__ = "case_ask"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    """Also of its Task."""
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    patient_id: Mapped[str] = mapped_column(Key)
    part: Mapped[str] = mapped_column(Key)
    en: Mapped[str] = mapped_column(String(120))
    zh: Mapped[str] = mapped_column(String(120))
    note: Mapped[str] = mapped_column(String(1000), default="")
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    """That is asked."""
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"))
    """Who asks."""
    asked_at_ms: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    """``asked``, ``answered`` or ``declined``."""
    open_key: Mapped[str | None] = mapped_column(Hash, unique=True)
    """Of consult, patient and part while it is open: nobody is asked twice at a time."""
    lock_code: Mapped[str | None] = mapped_column(Key)
    """How the question through the lock ended: empty when something came; None: not asked there."""
    closed_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    closed_by: Mapped[str | None] = mapped_column(String(80))
    reason: Mapped[str] = mapped_column(String(1000), default="")
    answer: Mapped[str] = mapped_column(Text, default="[]")
    """JSON list of ``Type/id`` that came."""

    __table_args__ = (
        Index("ix_case_ask_consult", "consult_id", "patient_id"),
        Index("ix_case_ask_hospital", "hospital_id", "status"),
    )
