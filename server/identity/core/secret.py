"""Opaque secrets: 256 random bits given to somebody, of which we keep only the hash."""

import base64
import hashlib


def encode_secret(random: bytes) -> str:
    """URL-safe text of 32 random bytes."""
    assert len(random) == 32, "a secret is 256 bits"
    return base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def hash_secret(secret: str) -> str:
    """What is stored and looked up; not reversible, and useless as a cookie."""
    return hashlib.sha256(secret.encode()).hexdigest()
