"""The hub's parts of the lock, put together, and what its routes remember between requests."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError

from server.clock import NowMs
from server.enrol.aio.codes import EnrolmentCodes
from server.lock.aio.admission import Admission
from server.lock.aio.applying import ApplyBundle, Applying
from server.lock.aio.desk import LockDesk
from server.lock.aio.gateways import Gateways
from server.lock.aio.inbox import Inbox
from server.lock.aio.leaving import EndBindings, Leaving
from server.lock.aio.nodes import LockNodes
from server.lock.aio.vault import KEYS_FILE, KeyPlace, Vault
from server.lock.core.proof import public_bytes
from server.lock.core.wire import Pairs
from server.settings import Settings
from server.storage.consult_store import consult_of
from server.storage.database import Database
from server.storage.lock_tables import LockQuestion
from signaling.core.ids import ConsultId
from signaling.core.model import Consult, ConsultStatus

log = structlog.get_logger(__name__)

FOLDER = "lock"
"""Of files that crossed, in the data folder."""
LATER = 10_000
FLUSH_S = 0.5
REMEMBER_S = 30.0
REMEMBERED = 1_000
PARSED = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Whom a consult's questions about one patient go to."""

    gateways: tuple[str, ...]
    patient: Pairs


class LockParts:
    """What the routes of the lock need.

    Args:
        hub_key: public half of the hub's lock key.
    """

    def __init__(
        self,
        desk: LockDesk,
        gateways: Gateways,
        codes: EnrolmentCodes,
        hub_key: bytes,
        database: Database,
        nodes: LockNodes | None,
        vault: Vault,
    ) -> None:
        self.desk, self.gateways, self.codes, self.hub_key, self.vault = desk, gateways, codes, hub_key, vault
        self._database, self._nodes = database, nodes
        self._questions: list[dict[str, Any]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._targets: OrderedDict[tuple[str, int], tuple[float, Target]] = OrderedDict()
        self._parsed: OrderedDict[ConsultId, tuple[str, Consult]] = OrderedDict()

    def target(self, consult: str, version: int) -> Target | None:
        """What `remember` was told of this context version, if it is not long ago."""
        known = self._targets.get((consult, version))
        return None if known is None or time.monotonic() > known[0] else known[1]

    def remember(self, consult: str, version: int, target: Target) -> None:
        """A context version is one patient for good; her identifiers are looked up again after ``REMEMBER_S``."""
        self._targets[consult, version] = (time.monotonic() + REMEMBER_S, target)
        self._targets.move_to_end((consult, version))
        if len(self._targets) > REMEMBERED:
            self._targets.popitem(last=False)

    def forget(self, consult: str, version: int) -> None:
        """Look it up anew at the next question."""
        self._targets.pop((consult, version), None)

    def consult_of(self, consult: ConsultId, snapshot: str | None) -> Consult | None:
        """The consult of a snapshot that was just read: parsed once for each text, since reads come far more often
        than anything changes, and a process that was idle takes 0.15 ms for it.

        What is remembered is what a text means, never what is stored now: a caller reads that each time.
        """
        known = self._parsed.get(consult)
        if known is not None and known[0] == snapshot:
            return known[1]
        parsed = consult_of(snapshot)
        if snapshot is None or parsed is None or parsed.status is ConsultStatus.ENDED:
            self._parsed.pop(consult, None)
            return parsed
        self._parsed[consult] = (snapshot, parsed)
        self._parsed.move_to_end(consult)
        if len(self._parsed) > PARSED:
            self._parsed.popitem(last=False)
        return parsed

    def note_question(self, **row: Any) -> None:
        """How a question ended, for the lock's log: written with others a moment later, so that nobody waits for it.

        That it was asked is in the audit chain by then; beyond ``LATER`` rows at once the log goes without.
        """
        if len(self._questions) >= LATER:
            log.warning("outcome of a question not written down")
            return
        self._questions.append(row)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="lock-questions")

    async def _flush(self) -> None:
        try:
            await asyncio.sleep(FLUSH_S)
        finally:
            await self._write()
            self._flushing = None

    async def _write(self) -> None:
        rows, self._questions = self._questions, []
        try:
            async with self._database.write() as session:
                await session.execute(insert(LockQuestion), rows)
        except SQLAlchemyError:
            log.exception("outcome of questions not written down", count=len(rows))

    async def start(self) -> None:
        """Take the keys of what is sealed, and begin to hear the hub's other processes, where there are some.

        Raises:
            server.exits.StartError: a key that was used is not here.
        """
        await self.vault.open(self._database)
        if self._nodes is not None:
            await self._nodes.start(self.desk)

    async def stop(self) -> None:
        """End connections, finish what is to be written down; idempotent."""
        await self.desk.stop()
        if self._nodes is not None:
            await self._nodes.stop()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)


def vault_of(settings: Settings) -> Vault:
    """Of files and rows that are kept sealed; not opened yet."""
    given = "" if settings.lock_keys is None else settings.lock_keys.get_secret_value()
    path = settings.lock_keys_file or settings.data_dir / KEYS_FILE
    return Vault(settings.data_dir / FOLDER, KeyPlace(path=path, given=given))


def build_lock(
    database: Database,
    key: Ed25519PrivateKey,
    origins: frozenset[str],
    apply_bundle: ApplyBundle,
    vault: Vault,
    now_ms: NowMs,
    now_us: Callable[[], int],
    end_bindings: EndBindings | None = None,
    redis_url: str = "",
) -> LockParts:
    """The lock of one hub process.

    Args:
        redis_url: by which the processes of one hub find each other; empty where this is the only one.
        end_bindings: what a transfer or discharge ends (W21); None where nothing can be bound.
    """
    codes = EnrolmentCodes(database, now_ms)
    before = Leaving(database, end_bindings) if end_bindings is not None else None
    inbox = Inbox(database, Applying(apply_bundle, vault), now_us, before)
    nodes = LockNodes(redis_url, key.private_bytes_raw(), now_ms) if redis_url else None
    desk = LockDesk(database, Admission(database, key, origins, now_us), inbox, vault, now_us, nodes)
    return LockParts(desk, Gateways(database, codes, now_ms), codes, public_bytes(key), database, nodes, vault)
