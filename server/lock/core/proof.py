"""What is signed, and what binds each crossing to all before it.

Both ends sign at each connection, with fresh random values of both: a recorded connection is
worth nothing, and a signature given to one hub is worth nothing at another, because the dialled
address is in the signed Hello. [LK6] [LK7]

``mark`` is a hash chain over the crossings of one stream. After a reconnect the hub says how far it has
the stream *and* with which mark: a journal restored from a backup, or one that two clones of
a machine went on with, shows at once instead of taking numbers for delivered that were others'. [LK9]

Ed25519; keys are 32 raw bytes on the wire and in the database.
"""

import hashlib

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_HUB = b"consilium lock 1: hub\0"
_GATEWAY = b"consilium lock 1: gateway\0"
_ENROL = b"consilium enrolment 1\0"


def hub_statement(hello: bytes, nonce: bytes, now_us: int) -> bytes:
    """What the hub signs: the whole Hello as it came, and its own challenge."""
    return _HUB + hashlib.sha256(hello).digest() + nonce + now_us.to_bytes(8, "big")


def gateway_statement(hello: bytes, challenge: bytes, up_to: int, mark: bytes) -> bytes:
    """What the gateway signs: both frames as they went over the line, and how far it has the hub's numbers."""
    frames = hashlib.sha256(hello).digest() + hashlib.sha256(challenge).digest()
    return _GATEWAY + frames + up_to.to_bytes(8, "big") + mark


def enrolment_statement(code: str, public_key: bytes) -> bytes:
    """What a newcomer signs: it has the private key of the public key it hands in, and means this code."""
    return _ENROL + hashlib.sha256(code.encode()).digest() + public_key


def verified(public_key: bytes, signature: bytes, statement: bytes) -> bool:
    """Whether the holder of the key signed this; False also for what is no key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """32 raw bytes of the public key."""
    return key.public_key().public_bytes_raw()


def next_mark(mark: bytes, sequence: int, source: str, key: str, digest: bytes) -> bytes:
    """Mark of a crossing from the mark of the one before; the first follows ``wire.GENESIS``."""
    row: bytes = msgpack.packb([sequence, source, key, digest])
    return hashlib.sha256(mark + row).digest()
