"""A program proves who it is with its private key (RFC 7523; SMART Backend Services section 4.1.3).

The assertion is a JWT signed with RS384 or ES384 by a key registered for the
client, made for this very endpoint, five minutes old at most, and used once
(the caller keeps its ``jti``).
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from server.smart.core.errors import OAuthCode, OAuthError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS384", "ES384")
MAX_LIFE_S = 300
SKEW_S = 60
"""A hospital's clock may be a little ahead of ours."""
MAX_CHARS = 8_000
MIN_RSA_BITS = 2_048
MAX_KEYS = 10


@dataclass(frozen=True, slots=True)
class Assertion:
    """Of a client, once; ``exp_s`` is seconds since 1970."""

    client: str
    jti: str
    exp_s: int


def named_client(assertion: str) -> str:
    """The client an assertion says it is of, before anything is checked.

    Raises:
        OAuthError: ``invalid_client``; nothing else, whatever the text.
    """
    try:
        if len(assertion) > MAX_CHARS:
            raise ValueError
        payload = assertion.split(".")[1]
        return str(json.loads(_unpadded(payload))["iss"])[:64]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise OAuthError(OAuthCode.INVALID_CLIENT, "no assertion") from None


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def check_assertion(assertion: str, jwks: str, *, client: str, audience: frozenset[str], now_s: float) -> Assertion:
    """The assertion of ``client``, signed by one of its keys.

    Raises:
        OAuthError: ``invalid_client``; nothing else, whatever the text.
    """
    try:
        keys = KeySet.import_key_set(json.loads(jwks))
        token = jwt.decode(assertion, keys, algorithms=list(ALGORITHMS))
    except (JoseError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise OAuthError(OAuthCode.INVALID_CLIENT, type(problem).__name__) from None
    claims: dict[str, Any] = dict(token.claims)
    exp, jti, aud = claims.get("exp"), claims.get("jti"), claims.get("aud")
    audiences = {aud} if isinstance(aud, str) else set(aud) if isinstance(aud, list) and all(map(_text, aud)) else set()
    if "kid" not in token.header:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "no kid")
    if claims.get("iss") != client or claims.get("sub") != client:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "another client")
    if not audiences & audience:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "for somebody else")
    if not _number(exp) or not now_s < exp <= now_s + MAX_LIFE_S + SKEW_S:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "expired, or valid for too long")
    if any(
        name in claims and not (_number(claims[name]) and claims[name] <= now_s + SKEW_S) for name in ("nbf", "iat")
    ):
        raise OAuthError(OAuthCode.INVALID_CLIENT, "not valid yet")
    if not isinstance(jti, str) or not 8 <= len(jti) <= 200:
        raise OAuthError(OAuthCode.INVALID_CLIENT, "no jti")
    return Assertion(client, jti, int(exp) + 1)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_jwks(value: Any) -> str:
    """A client's public keys as JSON text.

    Raises:
        ValueError: no keys, a private or a weak one, one without a name; the text says which.
    """
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_KEYS or not all(isinstance(key, dict) for key in keys):
        raise ValueError("a JWK set with one to ten keys")
    for key in keys:
        _check_key(key)
    return json.dumps({"keys": keys}, sort_keys=True)


def _check_key(raw: dict[str, Any]) -> None:
    if "d" in raw or "k" in raw:
        raise ValueError("a private key: give the public one")
    if not isinstance(raw.get("kid"), str) or not raw["kid"]:
        raise ValueError("a key needs a kid")
    try:
        if raw.get("kty") == "RSA":
            if RSAKey.import_key(raw).raw_value.key_size < MIN_RSA_BITS:
                raise ValueError("an RSA key has 2048 bits or more")
        elif raw.get("kty") == "EC" and raw.get("crv") == "P-384":
            ECKey.import_key(raw).raw_value  # noqa: B018 - reading it checks the point
        else:
            raise ValueError("keys are RSA or EC P-384")
    except (JoseError, KeyError, TypeError) as problem:
        raise ValueError("a key that cannot be read") from problem
