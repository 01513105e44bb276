"""argon2id password hashes, computed off the event loop (one takes tens of milliseconds on purpose)."""

import asyncio
import functools
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

CONCURRENT = 2
"""Each hash takes 64 MiB; more at once would let a login flood take the memory of the consults."""

DEFAULTS = PasswordHasher()


class Passwords:
    """Hash and check passwords with the library's defaults (RFC 9106, low-memory profile)."""

    def __init__(self, hasher: PasswordHasher = DEFAULTS) -> None:
        self._hasher = hasher
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._nobody = _nobodys(hasher)

    async def hash(self, password: str) -> str:
        """PHC string with its own salt."""
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, stored: str | None, password: str) -> bool:
        """Whether the password fits. ``None`` (no such login) costs the same time and is never right."""
        async with self._slots:
            fits = await asyncio.to_thread(self._fits, stored or self._nobody, password)
        return fits and stored is not None

    def _fits(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False


@functools.cache
def _nobodys(hasher: PasswordHasher) -> str:
    """A hash of what nobody knows."""
    return hasher.hash(secrets.token_urlsafe(16))
