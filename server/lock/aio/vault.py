"""What the lock keeps at the hub, encrypted at rest: files that crossed, and its rows with content (G4, C34).

The gateway's construction and code (`server.gateway.sealing`), under keys of the hub's own: a file with mode 0600, in
the data folder or wherever ``CONSILIUM_LOCK_KEYS_FILE`` says, or ``CONSILIUM_LOCK_KEYS`` itself. Every value is bound
to its place, so that it opens nowhere else, and names its key, so that older keys open what they sealed. The database
has a proof of each key that is in use: a hub whose keys are missing, or are others, does not start, and nothing is
made, replaced or thrown away. A key added to the file is used at once, by every process.

What earlier versions wrote lies open and stays readable: a file without the ending ``.sealed``, a row that names no
key. `resealing.py` seals it.
"""

import asyncio
import base64
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from server.exits import Exit, StartError
from server.gateway.sealing import NotAuthentic, SealingKeys, load_keys, read_keys, sync_folder
from server.storage.database import Database
from server.storage.lock_tables import LockKey

log = structlog.get_logger(__name__)

KEYS_FILE = "lock-files.keys"
KEYS_VARIABLE = "CONSILIUM_LOCK_KEYS"
ENDING = ".sealed"
MAGIC = b"consilium lock file 1\n"
"""Begins a sealed file; after it one byte with the length of the key's id, the id, nonce and what is encrypted."""
DIGEST_LETTERS = 64
_HEX = frozenset("0123456789abcdef")
_HEAD_BYTES = len(MAGIC) + 1 + 255 + 1
_LOST = "Only if a key is lost for good, and what it sealed with it: `consilium lock forget-key KEY`."
_PROOF, _PROVED, _FILE = "lock_key", b"consilium", "file"


class KeyAway(NotAuthentic):
    """What is there may be whole, but the key that sealed it is not here.

    Args:
        key: id of it.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"sealed with key {key}, which is not here")
        self.key = key


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPlace:
    """Where the keys come from.

    Args:
        given: content of the file, from the environment; then there is no file.
    """

    path: Path
    given: str = ""


class Vault:
    """Seals and opens; `open` comes first.

    Args:
        folder: of the files; made with mode 0700.
        keys: where no database has proofs of them, and nothing is to be opened first.
    """

    def __init__(self, folder: Path, place: KeyPlace, keys: SealingKeys | None = None) -> None:
        self.folder, self.place = folder, place
        self._keys = keys
        self._stamp: tuple[int, int] | None = None

    async def open(self, database: Database) -> None:
        """Take the keys, made at the first start; again where a key was added.

        Raises:
            StartError: they cannot be read, or one that was used is not among them.
        """
        async with database.read() as session:
            proofs = {row.id: bytes(row.proof) for row in (await session.scalars(select(LockKey))).all()}
        keys = await asyncio.to_thread(self._load, sorted(proofs))
        for key, proof in proofs.items():
            try:
                keys.open(key, proof, _bound(_PROOF, key))
            except NotAuthentic:
                raise StartError(Exit.SETTINGS, _other_keys(self._where, key)) from None
        if keys.newest not in proofs:
            row = {"id": keys.newest, "proof": keys.seal(_PROVED, _bound(_PROOF, keys.newest))}
            try:
                async with database.write() as session:
                    await session.execute(insert(LockKey), [row])
            except IntegrityError:  # another process of this hub starts too
                pass
        self._keys = keys

    @property
    def newest(self) -> str:
        """Id of the key that seals."""
        return self._present().newest

    @property
    def _where(self) -> str:
        return KEYS_VARIABLE if self.place.given else str(self.place.path)

    def _load(self, used: list[str]) -> SealingKeys:
        path = self.place.path
        if used and not self.place.given and not path.exists():
            raise StartError(
                Exit.SETTINGS,
                f"{path} is missing, and the lock's files and rows are sealed with its keys ({', '.join(used)}). Bring "
                f"it back, or name its place in CONSILIUM_LOCK_KEYS_FILE. Nothing was changed. {_LOST}",
            )
        self._stamp = _stamp(path)  # first: what is added from now on is seen
        return load_keys(path, self.place.given, KEYS_VARIABLE)

    def _present(self) -> SealingKeys:
        """The keys, with one that was added to the file meanwhile; a file that lost one is believed at a start only."""
        assert self._keys is not None, "the vault is opened before it is used"
        stamp = None if self.place.given else _stamp(self.place.path)
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                keys = read_keys(self.place.path)
            except StartError as problem:
                log.error("the lock's keys cannot be read again", problem=str(problem))
                return self._keys
            if self._keys.by_id.items() <= keys.by_id.items():
                self._keys = keys
        return self._keys

    # ------------------------------------------------------------ rows

    def seal_row(self, table: str, *row: object, **values: str | bytes | None) -> dict[str, Any]:
        """Columns of one row as they are kept, with ``sealed_with``: text as base64, None as None.

        Args:
            row: its primary key, to which each value is bound together with its table and column.
        """
        keys = self._present()
        sealed: dict[str, Any] = {"sealed_with": keys.newest}
        for name, value in values.items():
            bound = _bound(table, *row, name)
            if isinstance(value, str):
                sealed[name] = base64.b64encode(keys.seal(value.encode(), bound)).decode()
            else:
                sealed[name] = None if value is None else keys.seal(value, bound)
        return sealed

    def unseal(self, key: str, value: bytes, *place: object) -> bytes:
        """What was sealed for this table, row and column; where no key is named, as it is: an earlier version wrote it.

        Raises:
            KeyAway: the key is not here.
            NotAuthentic: changed or moved.
        """
        if not key:
            return value
        keys = self._present()
        if key not in keys.by_id:
            raise KeyAway(key)
        return keys.open(key, value, _bound(*place))

    def unseal_text(self, key: str, text: str, *place: object) -> str:
        """The same for a column of text.

        Raises:
            KeyAway: the key is not here.
            NotAuthentic: changed or moved.
        """
        if not key:
            return text
        try:
            return self.unseal(key, base64.b64decode(text, validate=True), *place).decode()
        except ValueError:
            raise NotAuthentic from None

    # ------------------------------------------------------------ files (these block)

    def path(self, digest: str) -> Path:
        """Of the sealed file."""
        return self.folder / digest[:2] / f"{digest}{ENDING}"

    def kept(self) -> Iterator[tuple[str, str]]:
        """Every file: its SHA-256 and the key that sealed it; empty where it lies open, ``?`` where it does not say."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            digest = path.name.removesuffix(ENDING)
            if len(digest) != DIGEST_LETTERS or not set(digest) <= _HEX:
                continue  # a draft, or what was set aside
            if path.name == digest:
                yield digest, ""
            else:
                yield digest, _key_of(path)

    def keep(self, body: bytes) -> str:
        """Keep a file, its name and its folder's name durable, whatever an earlier try left; its SHA-256.

        One that is there and does not open is set aside, not replaced; one that lay open is there no longer.

        Raises:
            OSError: the disk cannot.
        """
        digest = hashlib.sha256(body).hexdigest()
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_whole(path, digest):
            if path.exists():
                log.error("a file of the lock does not open and is set aside", sha256=digest)
                path.rename(path.with_name(f"{path.name}.unopened.{secrets.token_hex(4)}"))
            self.write(digest, body)
        for folder in (path.parent, self.folder):  # also of one that another process has just made
            sync_folder(folder)
        plain = path.with_name(digest)
        if _plain(plain, digest) is not None:
            plain.unlink(missing_ok=True)
        return digest

    def write(self, digest: str, body: bytes) -> None:
        """Seal a file with the newest key, whole or not at all; its folder is there.

        Raises:
            OSError: the disk cannot.
        """
        keys, path = self._present(), self.path(digest)
        for old in path.parent.glob(f".{path.name}.*"):
            old.unlink(missing_ok=True)  # of a process that was killed: the same crossing came again
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + bytes([len(keys.newest)]) + keys.newest.encode())
            file.write(keys.seal(body, _bound(_FILE, digest)))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_folder(path.parent)

    def read(self, digest: str) -> bytes | None:
        """A file; None when there is none that still is what it was filed as.

        Raises:
            KeyAway: it is sealed with a key that is not here.
        """
        path = self.path(digest)
        try:
            return self._open_file(path, digest)
        except FileNotFoundError:
            return _plain(path.with_name(digest), digest)
        except KeyAway:
            raise
        except (OSError, NotAuthentic):
            return None

    def _is_whole(self, path: Path, digest: str) -> bool:
        try:
            self._open_file(path, digest)
        except (FileNotFoundError, NotAuthentic):
            return False
        return True

    def _open_file(self, path: Path, digest: str) -> bytes:
        key, sealed = split(path.read_bytes())
        return self.unseal(key, sealed, _FILE, digest)


def split(content: bytes) -> tuple[str, bytes]:
    """Id of the key of a sealed file, and what is sealed.

    Raises:
        NotAuthentic: it does not begin like one.
    """
    start = len(MAGIC)
    end = start + 1 + (content[start] if len(content) > start else 0)
    key = content[start + 1 : end]
    if not content.startswith(MAGIC) or not key or len(content) <= end or not key.isascii():
        raise NotAuthentic
    return key.decode(), content[end:]


def _key_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return split(file.read(_HEAD_BYTES))[0]
    except (OSError, NotAuthentic):
        return "?"


def _plain(path: Path, digest: str) -> bytes | None:
    """A file as earlier versions kept it."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _bound(*place: object) -> bytes:
    return "\0".join(str(part) for part in place).encode()


def _other_keys(where: str, key: str) -> str:
    return (
        f"The lock's files and rows were sealed with key {key}, and {where} does not have it, or has another one of "
        "that name. Bring the former keys back; new ones are added beside them (`consilium lock rotate-key`). Nothing "
        f"was changed. {_LOST}"
    )
