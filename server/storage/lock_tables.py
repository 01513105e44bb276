"""Tables of the lock: gateways, enrolment codes, what crossed, what waits to go in, files that came.

Times that end in ``_us`` are microseconds of the machine the column names; they are shown, never compared
across machines.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Hash, Key

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the key is an INTEGER."""


class EnrolmentCode(Base):
    """A one-time code with which a program or device of a hospital enrols; kept as a hash, never deleted unused."""

    __tablename__ = "enrolment_code"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    code_hash: Mapped[str] = mapped_column(Hash, unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    """``gateway``; later devices too."""
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"))
    name: Mapped[str] = mapped_column(String(200))
    created_by: Mapped[str | None] = mapped_column(ForeignKey("person.id"))
    """None: on the hub's own command line."""
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)
    used_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    subject: Mapped[str | None] = mapped_column(Key)
    """Id of what was enrolled with it."""


class GatewayRow(Base):
    """A hospital's gateway: its key, and how far its stream is committed here."""

    __tablename__ = "gateway"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("hospital.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    public_key: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    enrolled_at_ms: Mapped[int] = mapped_column(BigInteger)
    revoked_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    connection: Mapped[int] = mapped_column(BigInteger, default=0)
    """Raised by each connection: what an older one still commits is fenced off by it."""
    stream: Mapped[str] = mapped_column(Key, default="")
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    mark: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Of the last crossing in ``received``."""
    outbox_last: Mapped[int] = mapped_column(BigInteger, default=0)
    outbox_acked: Mapped[int] = mapped_column(BigInteger, default=0)
    outbox_mark: Mapped[bytes] = mapped_column(LargeBinary(32))
    connected_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    seen_at_ms: Mapped[int | None] = mapped_column(BigInteger)
    software: Mapped[str] = mapped_column(Key, default="")
    policy: Mapped[str] = mapped_column(Key, default="")
    offset_us: Mapped[int | None] = mapped_column(BigInteger)
    """Gateway's clock minus the hub's."""


class LockCrossing(Base):
    """One number of one stream and what became of it: the inbox that makes a repeat harmless, and the log."""

    __tablename__ = "lock_crossing"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    gateway_id: Mapped[str] = mapped_column(ForeignKey("gateway.id"))
    stream: Mapped[str] = mapped_column(Key)
    sequence: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[int] = mapped_column(BigInteger)
    """Above ``sequence`` only where a run of numbers could not be sent any more."""
    source: Mapped[str] = mapped_column(Key)
    kind: Mapped[str] = mapped_column(Key)
    key_hash: Mapped[str] = mapped_column(Hash)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    verdict: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(Key, default="")
    reason: Mapped[str] = mapped_column(String(300), default="")
    made_us: Mapped[int] = mapped_column(BigInteger)
    gateway_received_us: Mapped[int] = mapped_column(BigInteger)
    gateway_journaled_us: Mapped[int] = mapped_column(BigInteger)
    gateway_sent_us: Mapped[int] = mapped_column(BigInteger)
    hub_received_us: Mapped[int] = mapped_column(BigInteger)
    hub_committed_us: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ux_lock_crossing_number", "gateway_id", "stream", "sequence", unique=True),
        Index("ix_lock_crossing_key", "gateway_id", "key_hash"),
        Index("ix_lock_crossing_listing", "gateway_id", "id"),
    )


class LockOutbox(Base):
    """What the hub sends into a hospital, until the hospital has it."""

    __tablename__ = "lock_outbox"

    gateway_id: Mapped[str] = mapped_column(ForeignKey("gateway.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(Key)
    kind: Mapped[str] = mapped_column(Key)
    key: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(Key)
    patient: Mapped[str] = mapped_column(Text)
    """JSON list of (system, value), sealed; empty once the body is gone."""
    about: Mapped[str] = mapped_column(Text)
    """JSON list of (name, value), sealed; empty once the body is gone."""
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Sealed. Gone once the hospital has it or has refused it."""
    sealed_with: Mapped[str] = mapped_column(Key, default="")
    """Id of the key; empty where nothing is sealed. (`server.lock.aio.vault`)"""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    mark: Mapped[bytes] = mapped_column(LargeBinary(32))
    made_us: Mapped[int] = mapped_column(BigInteger)
    queued_us: Mapped[int] = mapped_column(BigInteger)
    sent_us: Mapped[int | None] = mapped_column(BigInteger)
    gateway_committed_us: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    """``waiting``, ``inside`` (the gateway has it), ``delivered``, ``refused``."""
    code: Mapped[str] = mapped_column(Key, default="")
    delivered_us: Mapped[int | None] = mapped_column(BigInteger)
    """By the gateway's clock."""

    __table_args__ = (Index("ux_lock_outbox_key", "gateway_id", "key", unique=True),)


class LockQuestion(Base):
    """One question through the lock: who, of which consult, what kind; never what was answered."""

    __tablename__ = "lock_question"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    gateway_id: Mapped[str] = mapped_column(ForeignKey("gateway.id"))
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    actor: Mapped[str] = mapped_column(String(80))
    type: Mapped[str] = mapped_column(Key)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(Key)
    """Empty when it was answered."""
    count: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    took_us: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_lock_question_listing", "gateway_id", "id"),)


class LockFile(Base):
    """A file that crossed (DICOM, WFDB, PDF): its bytes are sealed in the lock's folder under their hash."""

    __tablename__ = "lock_file"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    gateway_id: Mapped[str] = mapped_column(ForeignKey("gateway.id"))
    stream: Mapped[str] = mapped_column(Key)
    sequence: Mapped[int] = mapped_column(BigInteger)
    patient_id: Mapped[str | None] = mapped_column(Key, index=True)
    """None until somebody says whose it is: no stored patient has one of its identifiers."""
    kind: Mapped[str] = mapped_column(Key)
    media_type: Mapped[str] = mapped_column(Key)
    about: Mapped[str] = mapped_column(Text)
    """JSON list of (name, value), sealed: it names the patient."""
    instance: Mapped[str] = mapped_column(Key, default="")
    """UID of a DICOM object, by which a study names it."""
    sealed_with: Mapped[str] = mapped_column(Key, default="")
    """Id of the key of ``about``; empty where that lies open, as earlier versions wrote it."""
    sha256: Mapped[str] = mapped_column(Hash)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    made_us: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int] = mapped_column(BigInteger)


class LockKey(Base):
    """A key that ever sealed something of the lock: with it the hub knows at its start whether its keys are here."""

    __tablename__ = "lock_key"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    proof: Mapped[bytes] = mapped_column(LargeBinary)
    """Known text, sealed with it."""
