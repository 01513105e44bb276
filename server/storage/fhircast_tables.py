"""Tables of the FHIRcast hub."""

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Key


class FhircastTopic(Base):
    """The session that outside programs know a consult by; it counts while the consult is open."""

    __tablename__ = "fhircast_topic"

    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"), primary_key=True)
    topic: Mapped[str] = mapped_column(Key, unique=True)
    """Random. Alone it opens nothing, so it is kept as it is: programs that start later are told it again."""
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
