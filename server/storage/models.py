"""Tables of the server, the same on SQLite and PostgreSQL.

Times are integer milliseconds since 1970 (UTC). JSON is kept as the text that
was written, because the audit chain hashes bytes, not values. Secrets (session
ids, link tokens, device secrets) are kept only as SHA-256: they are 256 random
bits, so a fast hash is enough; passwords use argon2id (`server.identity.aio`).

Changing a table means a new file in ``server/migrations/versions``; a contract
test compares both on both databases.
"""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraint names: a migration can only drop what has a name, on either database."""

Key = String(64)
Hash = String(64)
"""SHA-256 in hexadecimal."""


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(naming_convention=NAMING)


class Hospital(Base):
    """The hub or a partner."""

    __tablename__ = "hospital"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    name_latin: Mapped[str] = mapped_column(String(200), default="")
    hub: Mapped[bool]


class Room(Base):
    """A consulting room."""

    __tablename__ = "room"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    name: Mapped[str] = mapped_column(String(200))


class Station(Base):
    """A place in a room with devices and screens."""

    __tablename__ = "station"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(ForeignKey("room.id"))
    name: Mapped[str] = mapped_column(String(200))


class Screen(Base):
    """One display surface of a station."""

    __tablename__ = "screen"

    station_id: Mapped[str] = mapped_column(ForeignKey("station.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    role: Mapped[str] = mapped_column(String(16))
    identify_until_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    last_seen_ms: Mapped[int] = mapped_column(BigInteger, default=0)


class Person(Base):
    """Someone with an account."""

    __tablename__ = "person"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    name: Mapped[str] = mapped_column(String(200))
    name_latin: Mapped[str] = mapped_column(String(200), default="")
    role: Mapped[str] = mapped_column(String(16))
    active: Mapped[bool] = mapped_column(default=True)


class Account(Base):
    """How a person signs in."""

    __tablename__ = "account"

    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), primary_key=True)
    login: Mapped[str] = mapped_column(String(100), unique=True)
    """Lower case."""
    password_hash: Mapped[str] = mapped_column(String(200))


class DeviceAccount(Base):
    """A partner room or a bedside source that comes without a person (roles ``room`` and ``device``)."""

    __tablename__ = "device_account"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(Hash, unique=True)
    simulated: Mapped[bool]
    active: Mapped[bool] = mapped_column(default=True)


class WebSession(Base):
    """One signed-in browser; the cookie holds the id of which this is the hash."""

    __tablename__ = "web_session"

    id_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    person_id: Mapped[str | None] = mapped_column(ForeignKey("person.id"), index=True)
    invite_id: Mapped[str | None] = mapped_column(ForeignKey("invite.id"), index=True)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    last_seen_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    revoked: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (CheckConstraint("(person_id IS NULL) <> (invite_id IS NULL)", name="one_subject"),)


class ConsultRow(Base):
    """What was planned; the live state is ``ConsultState``."""

    __tablename__ = "consult"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    room_id: Mapped[str] = mapped_column(ForeignKey("room.id"))
    station_id: Mapped[str | None] = mapped_column(ForeignKey("station.id"), index=True)
    partner_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    starts_at_ms: Mapped[int] = mapped_column(BigInteger)


class ConsultMember(Base):
    """A person or device account that may enter the consult, and as what."""

    __tablename__ = "consult_member"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    """``person`` or ``device``."""
    subject_id: Mapped[str] = mapped_column(Key, primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))


class ConsultPatient(Base):
    """A patient who may be opened in the consult."""

    __tablename__ = "consult_patient"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)


class Invite(Base):
    """A guest link: one use, 15 minutes."""

    __tablename__ = "invite"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    token_hash: Mapped[str] = mapped_column(Hash, unique=True)
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    name: Mapped[str] = mapped_column(String(200))
    created_by: Mapped[str] = mapped_column(ForeignKey("person.id"))
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)
    redeemed_at_ms: Mapped[int | None] = mapped_column(BigInteger)


class Pairing(Base):
    """A wall display that shows a code and waits to be claimed."""

    __tablename__ = "pairing"

    secret_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    code: Mapped[str] = mapped_column(String(8), unique=True)
    slot: Mapped[int] = mapped_column(Integer)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    station_id: Mapped[str | None] = mapped_column(ForeignKey("station.id"))
    number: Mapped[int | None] = mapped_column(Integer)


class ScreenCredential(Base):
    """The cookie of a paired wall display; a screen has at most one that is not revoked."""

    __tablename__ = "screen_credential"

    id_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    station_id: Mapped[str] = mapped_column(ForeignKey("station.id"))
    number: Mapped[int] = mapped_column(Integer)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    revoked: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index("ix_screen_credential_screen", "station_id", "number"),)


class UsedToken(Base):
    """Consult tokens that have been used; kept until they would have expired anyway."""

    __tablename__ = "used_token"

    jti: Mapped[str] = mapped_column(Key, primary_key=True)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)


class ConsultState(Base):
    """Snapshot of a consult at ``revision``."""

    __tablename__ = "consult_state"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    snapshot: Mapped[str] = mapped_column(Text)


class ConsultSeat(Base):
    """Which process has a participant of a consult; written with the commit that gives it the participant."""

    __tablename__ = "consult_seat"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    participant_id: Mapped[str] = mapped_column(Key, primary_key=True)
    node: Mapped[str] = mapped_column(Key)


class Process(Base):
    """A process that serves consults beside others."""

    __tablename__ = "process"

    node: Mapped[str] = mapped_column(Key, primary_key=True)
    word: Mapped[int] = mapped_column(BigInteger)
    """Another one each time it says that it lives."""


class EventRow(Base):
    """One link of the append-only chain: a consult event or an audit entry. `chain.py` says how it is hashed."""

    __tablename__ = "event"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    consult_id: Mapped[str | None] = mapped_column(Key)
    revision: Mapped[int | None] = mapped_column(BigInteger)
    """Set on consult events only."""
    kind: Mapped[str] = mapped_column(String(64), index=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(80))
    body: Mapped[str] = mapped_column(Text)
    prev_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))

    __table_args__ = (
        Index("ux_event_consult_revision", "consult_id", "revision", unique=True),
        Index("ix_event_consult_kind", "consult_id", "kind", "seq"),
    )


class ChainHead(Base):
    """The last link; its one row is the lock under which the chain grows."""

    __tablename__ = "chain_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class WaveformArchiveRow(Base):
    """One archived waveform stream; its frames are in the blob store."""

    __tablename__ = "waveform_archive"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    """Random; names the folder of its frames."""
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    stream_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(8))
    """``live`` or ``import``."""
    title: Mapped[str] = mapped_column(String(200))
    device: Mapped[str] = mapped_column(String(200))
    leads: Mapped[str] = mapped_column(Text)
    """JSON list in the order of the frames' lead mask."""
    sample_rate_mhz: Mapped[int] = mapped_column(Integer)
    lsb_nv: Mapped[int] = mapped_column(Integer)
    filter: Mapped[str] = mapped_column(String(200))
    simulated: Mapped[bool]
    patient_id: Mapped[str] = mapped_column(Key)
    context_version: Mapped[int] = mapped_column(BigInteger)
    opened_at_ms: Mapped[int] = mapped_column(BigInteger)
    closed_at_ms: Mapped[int | None] = mapped_column(BigInteger, index=True)
    first_us: Mapped[int] = mapped_column(BigInteger, default=0)
    last_us: Mapped[int] = mapped_column(BigInteger, default=0)
    frames: Mapped[int] = mapped_column(BigInteger, default=0)
    gaps: Mapped[int] = mapped_column(BigInteger, default=0)
    lost: Mapped[int] = mapped_column(BigInteger, default=0)
    sha256: Mapped[str | None] = mapped_column(Hash)
    """Over all records in their order; set when it is closed."""

    __table_args__ = (Index("ix_waveform_archive_consult", "consult_id", "patient_id"),)


class VitalSignRow(Base):
    """One vital sign or reported alarm that a device sent during a consult."""

    __tablename__ = "vital_sign"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    patient_id: Mapped[str] = mapped_column(Key)
    device: Mapped[str] = mapped_column(String(200))
    context_version: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(String(16))
    """A code of the wire, or ``alarm``."""
    value: Mapped[str] = mapped_column(Text)
    """JSON: a number, a list of three, null; of an alarm its text and priority."""
    unit: Mapped[str] = mapped_column(String(32))
    at_us: Mapped[int] = mapped_column(BigInteger)
    quality: Mapped[str] = mapped_column(String(16))
    simulated: Mapped[bool]

    __table_args__ = (Index("ix_vital_sign_time", "consult_id", "patient_id", "at_us"),)


class EcgSnapshotRow(Base):
    """A strip that somebody ordered; ``frames`` is there once it is stored."""

    __tablename__ = "ecg_snapshot"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), index=True)
    archive_id: Mapped[str] = mapped_column(ForeignKey("waveform_archive.id"))
    patient_id: Mapped[str] = mapped_column(Key)
    ordered: Mapped[str] = mapped_column(Text)
    """The order, as JSON."""
    stored: Mapped[str | None] = mapped_column(Text)
    """What came of it, as JSON: the strip, or ``{"failed": code}``."""
    frames: Mapped[bytes | None] = mapped_column(LargeBinary)
    """``u32 length | frame``, as in the archive."""
