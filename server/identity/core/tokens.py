"""Consult tokens: what is in them, signed and read; whether they may still be used is the shell's question.

A token is a JSON web token (RFC 7519) signed with HS256 by a key that only this
installation has. It is opaque to everyone else, lives 60 s, and is bound to
person, role, consult, participant and the web session it was asked with.
"""

from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import BaseModel, ConfigDict, ValidationError

from server.storage.chain import canonical_json
from signaling.core.model import Id, Role, TimeMs

ALGORITHM = "HS256"
PURPOSE = "consilium/consult"
"""``aud``: a token signed with the same key for anything else is not a consult token."""
KEY_BYTES = 32
MAX_TOKEN_CHARS = 2_048


class TokenInvalid(Exception):
    """Not a token of ours, or not for this purpose, or too old. The text is for the log."""


class ConsultClaims(BaseModel):
    """Content of a consult token."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    aud: str = PURPOSE
    jti: Id
    exp_ms: TimeMs
    consult: Id
    participant: Id
    kind: Id
    """``person``, ``guest``, ``screen`` or ``device``."""
    subject: Id
    role: Role
    credential: Id
    """Hash of the cookie or secret that the token was asked with; when that is revoked, so is the token."""


def sign(claims: ConsultClaims, key: bytes) -> str:
    """Compact serialisation of the signed claims."""
    return jws.serialize_compact(
        {"alg": ALGORITHM, "typ": "JWT"}, canonical_json(claims.model_dump(mode="json")), OctKey.import_key(key)
    )


def read(token: Any, key: bytes, now_ms: int) -> ConsultClaims:
    """Check signature, shape, purpose and age.

    Raises:
        TokenInvalid: whatever is wrong; nothing else is ever raised.
    """
    if not isinstance(token, str) or not token.isascii() or len(token) > MAX_TOKEN_CHARS:
        raise TokenInvalid("not a token")
    try:
        # The algorithm is ours to choose, never the token's.
        payload = jws.deserialize_compact(token, OctKey.import_key(key), algorithms=[ALGORITHM]).payload
        claims = ConsultClaims.model_validate_json(payload)
    except (JoseError, ValidationError, ValueError) as problem:
        raise TokenInvalid(type(problem).__name__) from None
    if claims.aud != PURPOSE:
        raise TokenInvalid("another purpose")
    if now_ms >= claims.exp_ms:
        raise TokenInvalid("expired")
    return claims
