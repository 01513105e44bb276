"""Tables of the FHIRcast hub."""

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Hash, Key


class FhircastTopic(Base):
    """The session that outside programs know a consult by; it counts while the consult is open."""

    __tablename__ = "fhircast_topic"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    topic: Mapped[str] = mapped_column(Key, unique=True)
    """Random. Alone it opens nothing, so it is kept as it is: programs that start later are told it again."""
    created_at_ms: Mapped[int] = mapped_column(BigInteger)


class FhircastSubscription(Base):
    """A program's interest in a consult's topic, so that its endpoint outlives the process that it was made in. (H6)"""

    __tablename__ = "fhircast_subscription"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    endpoint_hash: Mapped[str] = mapped_column(Hash, unique=True)
    """The endpoint is a secret (H2)."""
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    client_id: Mapped[str] = mapped_column(Key)
    subject_id: Mapped[str] = mapped_column(Key)
    name: Mapped[str] = mapped_column(String(80))
    key: Mapped[str] = mapped_column(Key)
    """The same for the same program of the same person in the same consult."""
    token_hash: Mapped[str] = mapped_column(Hash)
    """What it was subscribed with, to ask whether it is still good. (H5)"""
    events: Mapped[str] = mapped_column(Text)
    """Names, by commas."""
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    lease_until_ms: Mapped[int] = mapped_column(BigInteger)
    shown: Mapped[str] = mapped_column(Text)
    """JSON: the openings that it was told and no closing of."""
    connected: Mapped[bool]
    """It has a socket, or had one when its process ended without a word."""
    behind: Mapped[str | None] = mapped_column(String(16))
    node: Mapped[str] = mapped_column(Key)
    """The process that has it."""
    seen_at_ms: Mapped[int] = mapped_column(BigInteger)
    """When that process last said, in this row, that it lives; the newest of its rows counts."""

    __table_args__ = (
        Index("ix_fhircast_subscription_consult", "consult_id"),
        Index("ix_fhircast_subscription_node", "node"),
    )
