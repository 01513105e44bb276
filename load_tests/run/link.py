"""Coordinator and generators talk over TCP: msgpack maps, encrypted and authenticated with a key that both were given.

A generator does what its coordinator says, with the accounts of the world it is told, so neither may talk to a
stranger. Both ends send 16 random bytes; HKDF makes a key for each direction of the shared key and these; each frame
is ``u32 big-endian length || AES-256-GCM(msgpack)`` under a counter as nonce. A frame that does not open ends the
link: there is no way to learn by trying, and none to repeat or leave out a frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16
MAX_FRAME_BYTES: Final = 64 << 20
STRANGER_BYTES: Final = 64 << 10
"""Longest first frame: until it has opened, the other end may be anybody."""
HELLO_S: Final = 10.0
KEY_VARIABLE: Final = "CONSILIUM_LOAD_KEY"


class LinkLost(Exception):
    """The other end is gone, or is not who it should be."""


def new_key() -> str:
    """A key as it is handed around: 64 hex digits."""
    return secrets.token_hex(KEY_BYTES)


def read_key(text: str) -> bytes:
    """A key from its hex digits.

    Raises:
        ValueError: it is none.
    """
    key = bytes.fromhex(text.strip())
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 64 hex digits")
    return key


class Link:
    """One end of an open connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, out_key: bytes, in_key: bytes
    ) -> None:
        self._reader, self._writer = reader, writer
        self._out, self._in = AESGCM(out_key), AESGCM(in_key)
        self._sent = self._received = 0

    async def send(self, message: dict[str, Any]) -> None:
        """One message.

        Raises:
            LinkLost: the other end is gone.
        """
        body = self._out.encrypt(self._sent.to_bytes(12, "big"), msgpack.packb(message), None)
        self._sent += 1
        try:
            self._writer.write(len(body).to_bytes(4, "big") + body)
            await self._writer.drain()
        except OSError as problem:
            raise LinkLost(type(problem).__name__) from None

    async def receive(self) -> dict[str, Any]:
        """The next message.

        Raises:
            LinkLost: the other end is gone, or has another key.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > (MAX_FRAME_BYTES if self._received else STRANGER_BYTES):
                raise LinkLost("frame too long")
            body = await self._reader.readexactly(length)
            plain = self._in.decrypt(self._received.to_bytes(12, "big"), body, None)
        except (OSError, EOFError) as problem:
            raise LinkLost(type(problem).__name__) from None
        except InvalidTag:
            raise LinkLost("another key") from None
        self._received += 1
        message: dict[str, Any] = msgpack.unpackb(plain, strict_map_key=False)
        return message

    async def close(self) -> None:
        """End the connection; idempotent."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self._writer.wait_closed()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, *, coordinator: bool) -> Link:
    """Make a link of a connection; that the other end has the same key shows with its first message.

    Raises:
        LinkLost, TimeoutError: it says nothing.
    """
    mine = os.urandom(NONCE_BYTES)
    writer.write(mine)
    try:
        async with asyncio.timeout(HELLO_S):
            await writer.drain()
            theirs = await reader.readexactly(NONCE_BYTES)
    except (OSError, EOFError) as problem:
        raise LinkLost(type(problem).__name__) from None
    salt = mine + theirs if coordinator else theirs + mine
    down, up = (_derive(key, salt, name) for name in (b"orders", b"reports"))
    return Link(reader, writer, down, up) if coordinator else Link(reader, writer, up, down)


def _derive(key: bytes, salt: bytes, name: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, b"consilium load " + name).derive(key)
