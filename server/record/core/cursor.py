"""Where a page ended, in a text that only this hub can read.

A page's address would otherwise repeat the query, and with it a patient's
identifier, in every log on the way (G8). Sealed with AES-GCM, bound to whom it
was given to: a cursor that somebody changed, or found, opens nothing.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.record.core.outcome import FhirCode, FhirRefusal
from server.storage.chain import canonical_json

NONCE_BYTES = 12
MAX_CURSOR_CHARS = 24_000


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: its sort value and its number."""

    at: int
    res: int


def cursor_key(secret: bytes) -> bytes:
    """Key for cursors from the hub's signing key."""
    return hashlib.sha256(b"consilium/fhir-cursor" + secret).digest()


def seal(key: bytes, nonce: bytes, bound_to: str, content: dict[str, Any]) -> str:
    """Text for a URL."""
    sealed = nonce + AESGCM(key).encrypt(nonce, canonical_json(content).encode(), bound_to.encode())
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def unseal(key: bytes, bound_to: str, text: str) -> dict[str, Any]:
    """What was sealed.

    Raises:
        FhirRefusal: ``query``; nothing else, whatever the text.
    """
    try:
        if len(text) > MAX_CURSOR_CHARS or not text.isascii():
            raise ValueError
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        plain = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to.encode())
        content: dict[str, Any] = json.loads(plain)
    except (ValueError, binascii.Error, InvalidTag):
        raise FhirRefusal(FhirCode.QUERY, "the cursor is not one of ours") from None
    return content
