"""Tables of the authorization server (`server.smart`). Codes and tokens are kept as SHA-256 only."""

from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.storage.models import Base, Hash, Key


class SmartClient(Base):
    """A program that an administrator registered."""

    __tablename__ = "smart_client"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    """``public`` (an app in a browser), ``app`` (one with a key) or ``backend`` (a gateway, no person)."""
    hospital_id: Mapped[str | None] = mapped_column(ForeignKey("hospital.id"))
    """What system scopes reach; only backends have one."""
    redirect_uris: Mapped[str] = mapped_column(Text)
    """JSON array; compared character by character."""
    launch_uri: Mapped[str] = mapped_column(Text, default="")
    jwks: Mapped[str] = mapped_column(Text, default="")
    """The client's public keys as JSON; empty for public clients."""
    scopes: Mapped[str] = mapped_column(Text)
    """The most it can be granted."""
    active: Mapped[bool] = mapped_column(default=True)
    created_at_ms: Mapped[int] = mapped_column(BigInteger)


class SmartLaunch(Base):
    """One start of an app from our pages: what its ``launch`` parameter stands for."""

    __tablename__ = "smart_launch"

    launch_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("smart_client.id"))
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"))
    consult_id: Mapped[str] = mapped_column(ForeignKey("consult.id"))
    patient_id: Mapped[str | None] = mapped_column(Key)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)


class SmartGrant(Base):
    """What a person allowed an app, or a backend was given: every code and token hangs on one."""

    __tablename__ = "smart_grant"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    client_id: Mapped[str] = mapped_column(ForeignKey("smart_client.id"), index=True)
    person_id: Mapped[str | None] = mapped_column(ForeignKey("person.id"), index=True)
    credential: Mapped[str | None] = mapped_column(Hash)
    """Web session it was allowed in; signing out ends the grant."""
    scopes: Mapped[str] = mapped_column(Text)
    patient_id: Mapped[str | None] = mapped_column(Key)
    consult_id: Mapped[str | None] = mapped_column(ForeignKey("consult.id"))
    redirect_uri: Mapped[str] = mapped_column(Text, default="")
    challenge: Mapped[str] = mapped_column(String(64), default="")
    """PKCE S256."""
    nonce: Mapped[str] = mapped_column(String(200), default="")
    created_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    """When nothing of it works any more."""
    revoked: Mapped[bool] = mapped_column(default=False)


class SmartToken(Base):
    """A code, access token or refresh token of a grant."""

    __tablename__ = "smart_token"

    token_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    grant_id: Mapped[str] = mapped_column(ForeignKey("smart_grant.id"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``code``, ``access`` or ``refresh``."""
    scopes: Mapped[str] = mapped_column(Text)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    used: Mapped[bool] = mapped_column(default=False)
    """Codes and refresh tokens work once; a second use revokes the grant."""
