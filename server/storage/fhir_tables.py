"""Tables of the FHIR store; why they look so is in ``server/record/DESIGN.md``.

``fhir_resource`` has one row for each resource (its present version, or its
tombstone), ``fhir_version`` those that were replaced. The four index tables
hold nothing that is not derived from the present JSON: `server.record.core.index`
computes their rows, and computes the same ones again to take them out.

``part`` is the partition under which a row is found: a patient, a hospital, or
the directory. Every search names its partitions, so what a caller may not see
is never even read.
"""

from sqlalchemy import BigInteger, Double, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Key

Number = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite gives row numbers to INTEGER only."""


class FhirResource(Base):
    """The present version of one resource."""

    __tablename__ = "fhir_resource"

    res: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    """Our number for it: small in every index row, and growing, so pages by it miss nothing."""
    type: Mapped[str] = mapped_column(String(32))
    id: Mapped[str] = mapped_column(Key)
    version: Mapped[int] = mapped_column(Integer)
    deleted: Mapped[bool] = mapped_column(default=False)
    patient_id: Mapped[str | None] = mapped_column(Key)
    """Of the compartment it lies in; None in the directory."""
    owner: Mapped[str] = mapped_column(Key, default="")
    """Hospital it came from; empty for the hub's own."""
    part: Mapped[int] = mapped_column(BigInteger)
    low_us: Mapped[int] = mapped_column(BigInteger)
    """Start of its clinical date, as in the index rows."""
    category: Mapped[str] = mapped_column(String(64), default="")
    test: Mapped[bool] = mapped_column(default=False)
    json: Mapped[str] = mapped_column(Text)
    """Content with ``meta`` first and without version and time, which `layout.py` puts in; empty when deleted."""
    written_at_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ux_fhir_resource_id", "type", "id", unique=True),
        Index("ix_fhir_resource_patient", "patient_id", "type", "res"),
        Index("ix_fhir_resource_news", "owner", "written_at_ms", "res"),
    )


class FhirVersion(Base):
    """A version that is no longer the present one (C23); an empty ``json`` is a deletion."""

    __tablename__ = "fhir_version"

    type: Mapped[str] = mapped_column(String(32), primary_key=True)
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    patient_id: Mapped[str | None] = mapped_column(Key)
    json: Mapped[str] = mapped_column(Text)
    written_at_ms: Mapped[int] = mapped_column(BigInteger)


class FhirToken(Base):
    """One code or reference of one resource, found by hash, and sorted by the resource's clinical date."""

    __tablename__ = "fhir_token"

    key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Hash of type, parameter and code."""
    part: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    low_us: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    res: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    high_us: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    system: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Hash of the code's system; in the row of the type alone, the parameters that have a value, a bit each."""

    __table_args__ = ({"sqlite_with_rowid": False},)


class FhirDate(Base):
    """One date or period that is not the clinical date of its resource."""

    __tablename__ = "fhir_date"

    key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    res: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    low_us: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    high_us: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)

    __table_args__ = ({"sqlite_with_rowid": False},)


class FhirString(Base):
    """One text, folded for comparison, as UTF-8: bytes sort alike on every database and in every locale."""

    __tablename__ = "fhir_string"

    key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    text: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    res: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    exact: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Hash of the text as it stands."""

    __table_args__ = ({"sqlite_with_rowid": False},)


class FhirQuantity(Base):
    """One number with its unit, or a side of it; found beside a code or a type, so it is sorted by resource."""

    __tablename__ = "fhir_quantity"

    key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    res: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    low: Mapped[float] = mapped_column(Double, primary_key=True, autoincrement=False)
    high: Mapped[float] = mapped_column(Double, primary_key=True, autoincrement=False)
    system: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Hashes of the unit's system, code and text."""
    code: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    unit: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)

    __table_args__ = ({"sqlite_with_rowid": False},)


class FhirStore(Base):
    """One row: which rules the index rows were made by."""

    __tablename__ = "fhir_store"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    index_version: Mapped[int] = mapped_column(Integer)
