"""Encryption at rest at both ends of the lock: AES-256-GCM under keys of a file with mode 0600, or of the environment.

Each sealed value is bound to its row by the additional data: moved to another row, or to another
table, it does not open. The file holds several keys: new rows are sealed with the last one, older ones open
what they sealed (`consilium gateway rotate-key` adds one; a key whose rows are all gone may be taken out). A separate
key, which never changes, makes the fingerprints by which repeats are recognised. What of the hub is sealed with it is
`server.lock.aio.vault`.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.exits import Exit, StartError

KEY_BYTES = 32
NONCE_BYTES = 12
MAC_BYTES = 16


class NotAuthentic(Exception):
    """A sealed value is not what was written, or its key is gone."""


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """Keys in use; ``newest`` seals."""

    mac: bytes
    by_id: dict[str, bytes]
    newest: str

    def seal(self, value: bytes, bound_to: bytes) -> bytes:
        """Encrypt for one row."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.by_id[self.newest]).encrypt(nonce, value, bound_to)

    def open(self, key_id: str, sealed: bytes, bound_to: bytes) -> bytes:
        """Decrypt what was sealed for this row.

        Raises:
            NotAuthentic: changed, moved, or sealed with a key that is not here.
        """
        try:
            return AESGCM(self.by_id[key_id]).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
        except (InvalidTag, KeyError, ValueError):
            raise NotAuthentic from None

    def fingerprint(self, value: bytes) -> bytes:
        """Tells repeats without keeping what repeats."""
        return hmac.new(self.mac, value, hashlib.sha256).digest()[:MAC_BYTES]


def load_keys(path: Path, given: str = "", given_by: str = "CONSILIUM_GATEWAY_KEYS") -> SealingKeys:
    """The keys of a journal, made at the first start.

    Args:
        given: content of the file, from the environment, where a hospital keeps keys elsewhere.
        given_by: which variable of the environment.

    Raises:
        StartError: the file cannot be used, or others may read it.
    """
    if given:
        return _parse(given, given_by)
    with contextlib.suppress(FileExistsError):
        write_private(path, _text_of(new_keys()).encode(), exclusive=True)
    return read_keys(path)


def read_keys(path: Path) -> SealingKeys:
    """The keys of a file that is there.

    Raises:
        StartError: the file is missing, cannot be used, or others may read it.
    """
    return _parse(read_private(path).decode("utf-8", "replace"), str(path))


def new_keys() -> SealingKeys:
    """Fresh random keys."""
    name = secrets.token_hex(4)
    return SealingKeys(secrets.token_bytes(KEY_BYTES), {name: secrets.token_bytes(KEY_BYTES)}, name)


def rotate(path: Path) -> str:
    """Add a key that seals from the next start on; the id of it.

    Raises:
        StartError: the file cannot be used.
    """
    old = load_keys(path)
    name = secrets.token_hex(4)
    write_private(path, _text_of(SealingKeys(old.mac, {**old.by_id, name: secrets.token_bytes(32)}, name)).encode())
    return name


def read_private(path: Path) -> bytes:
    """A file that only its owner may read.

    Raises:
        StartError: missing, unreadable, or readable by others.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as problem:
        raise StartError(Exit.DATA_DIR, f"{path} cannot be read: {problem.strerror}.") from None
    if mode & 0o077:
        raise StartError(Exit.DATA_DIR, f"{path} may be read by others. Run: chmod 600 {path}")
    return content


def write_private(path: Path, content: bytes, *, exclusive: bool = False) -> None:
    """Write a file with mode 0600, whole or not at all.

    Raises:
        FileExistsError: it is there already, and ``exclusive``.
        StartError: it cannot be written.
    """
    if exclusive and path.exists():
        raise FileExistsError
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            # A link fails where a rename would replace: of two that start together one makes the file.
            path.hardlink_to(draft)
            draft.unlink()
        else:
            draft.rename(path)
        # Without this a power cut may take the name back, and what was sealed meanwhile with it.
        sync_folder(path.parent)
    except FileExistsError:
        draft.unlink(missing_ok=True)
        raise
    except OSError as problem:
        draft.unlink(missing_ok=True)
        raise StartError(Exit.DATA_DIR, f"{path} cannot be written: {problem.strerror}.") from None


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable.

    Raises:
        OSError: the disk cannot.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text_of(keys: SealingKeys) -> str:
    listed = [{"id": name, "key": key.hex()} for name, key in keys.by_id.items()]
    return json.dumps({"mac": keys.mac.hex(), "keys": listed}, indent=1)


def _parse(text: str, where: str) -> SealingKeys:
    try:
        value: Any = json.loads(text)
        keys = {str(one["id"]): bytes.fromhex(one["key"]) for one in value["keys"]}
        mac = bytes.fromhex(value["mac"])
        if not keys or any(len(key) != KEY_BYTES for key in (*keys.values(), mac)):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise StartError(Exit.SETTINGS, f"{where} does not hold keys as this program makes them.") from None
    return SealingKeys(mac, keys, list(keys)[-1])
