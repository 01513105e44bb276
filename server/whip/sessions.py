"""A publisher without a signalling socket: the same commands, given for it by the server (RFC 9725).

An encoder that speaks WHIP knows three requests. Behind them a `WhipSession` is an ordinary peer of the
consult service: it joins, makes one sending Transport, produces, and leaves, under the same
role table and with the same events as any page. Nobody reads what it is told, so it watches the
events only for its own end: when nothing of what it sends is left (consent lost, worker
replaced) it leaves at once, and the encoder's next request is answered 404, on which encoders begin anew.

A session ends when its owner deletes it, when its right ends [SE12], when the same participant
comes in by another way [SE15], with the consult, or with its media. Its task is owned by `WhipSessions`.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Coroutine
from typing import Any

import structlog

from media.core.whip import Offer
from signaling.aio.service import ConsultService
from signaling.core import messages as m
from signaling.core import policy
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.frames import decode_event
from signaling.core.ids import ProducerId, TransportId
from signaling.core.model import MediaSource

log = structlog.get_logger(__name__)

MAX_SESSIONS = 256
"""Publishers on this node; each is a Transport with a handshake of its own."""
BEGIN_S = 15.0
"""Longest time from the offer to the answer; each command inside has its own limit."""
LEAVE_S = 10.0

SOURCES = {"audio": MediaSource.MICROPHONE, "video": MediaSource.CAMERA}


class WhipSession:
    """One publisher, as the consult service sees it: a ``Peer``.

    Args:
        key: the secret its requests carry; only the hash is kept.
    """

    hears = False

    def __init__(self, admission: Admission, offer: Offer, key: str) -> None:
        self.admission = admission
        self.id = secrets.token_urlsafe(18)
        self.goodbye_reason: str | None = None
        self.over = asyncio.Event()
        """Nothing of it is in the consult any more, or nothing of what it sends."""
        self.options: m.TransportOptions | None = None
        self.etag = new_etag()
        self.remote_ufrag = offer.ice_ufrag
        self.patching = asyncio.Lock()
        self._key = _hash(key)
        self._producers: set[ProducerId] = set()

    def is_keyed(self, key: str) -> bool:
        """The secret is the one it was made with."""
        return secrets.compare_digest(self._key, _hash(key))

    def produces(self, producer: ProducerId) -> None:
        """One of its own."""
        self._producers.add(producer)

    @property
    def transport(self) -> TransportId:
        """Its Transport, once it has begun."""
        assert self.options is not None
        return self.options.id

    # ------------------------------------------------------------ Peer

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        """Of all that happens only its own end matters."""
        if key is not None:
            return
        name, event = decode_event(frame)
        if name != "event":
            return
        if event["type"] == "producer_closed" and event["producer"] in self._producers:
            self._producers.discard(ProducerId(event["producer"]))
            if not self._producers:
                self.over.set()
        elif event["type"] == "media_reset":
            self.over.set()

    def hold_events(self) -> None:
        """It reads no snapshot that events could overtake."""

    def goodbye(self, reason: str) -> None:
        """It is out of the consult already."""
        self.goodbye_reason = reason
        self.over.set()


class WhipSessions:
    """All publishers of this node."""

    def __init__(self, service: ConsultService) -> None:
        self._service = service
        self._sessions: dict[str, WhipSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beginning = 0

    def __len__(self) -> int:
        return len(self._sessions)

    async def stop(self) -> None:
        """End every watch; idempotent. Participants stay, as those with sockets do when a server stops. [SE8]"""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sessions.clear()

    def find(self, identity: str, key: str) -> WhipSession | None:
        """The session of this id, for who has its key."""
        session = self._sessions.get(identity)
        return session if session is not None and session.is_keyed(key) and not session.over.is_set() else None

    async def begin(self, admission: Admission, offer: Offer, key: str) -> WhipSession:
        """Join, make the Transport, produce.

        Raises:
            Refusal: declined; nothing of it is left in the consult.
        """
        for source in offer.sources:
            # Asked before anything happens: whoever may not send must not lose the page it watches with.
            policy.check(admission.role, _produce(TransportId("none"), source.kind, source.rtp_parameters))
        if len(self._sessions) + self._beginning >= MAX_SESSIONS:
            raise Refusal(ErrorCode.TOO_BUSY, "too many publishers")
        session = WhipSession(admission, offer, key)
        self._beginning += 1
        try:
            async with asyncio.timeout(BEGIN_S):
                await self._enter(session, offer)
        except TimeoutError:
            self._spawn(self._leave(session))
            raise Refusal(ErrorCode.MEDIA_UNAVAILABLE, "the session did not begin in time") from None
        except BaseException:
            self._spawn(self._leave(session))
            raise
        finally:
            self._beginning -= 1
        self._sessions[session.id] = session
        self._spawn(self._watch(session))
        log.info("whip session", consult=admission.consult, participant=admission.participant)
        return session

    async def restart_ice(self, session: WhipSession, ufrag: str) -> dict[str, Any]:
        """Fresh credentials for a publisher that came back with its own.

        Raises:
            Refusal: as `ConsultService.execute`.
        """
        answer = await self._service.execute(session, m.RestartIce(transport=session.transport))
        assert isinstance(answer, m.IceRestarted)
        session.remote_ufrag = ufrag
        session.etag = new_etag()
        return answer.ice_parameters

    async def end(self, session: WhipSession) -> None:
        """Leave; idempotent."""
        self._sessions.pop(session.id, None)
        await self._leave(session)

    async def _enter(self, session: WhipSession, offer: Offer) -> None:
        execute = self._service.execute
        await execute(session, m.Join())
        options = await execute(session, m.CreateTransport(direction="send"))
        assert isinstance(options, m.TransportOptions)
        session.options = options
        connect = m.ConnectTransport(transport=options.id, dtls_parameters=offer.dtls_parameters)
        await execute(session, connect)
        for source in offer.sources:
            made = await execute(session, _produce(options.id, source.kind, source.rtp_parameters))
            assert isinstance(made, m.Produced)
            session.produces(made.producer)
        if session.over.is_set():
            raise Refusal(ErrorCode.MEDIA_UNAVAILABLE, "ended while it began")

    async def _watch(self, session: WhipSession) -> None:
        await session.over.wait()
        self._sessions.pop(session.id, None)
        await self._leave(session)
        log.info(
            "whip session over", consult=session.admission.consult, reason=session.goodbye_reason or "media is gone"
        )

    async def _leave(self, session: WhipSession) -> None:
        """Nothing for who never came in, or was put out already."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._service.execute(session, m.Leave())
        except Refusal as refusal:
            if refusal.code not in (ErrorCode.NOT_JOINED, ErrorCode.CONSULT_ENDED):
                await self._service.detach(session)
        except Exception as error:  # the store is away: the grace time ends what this could not
            log.warning("whip session left later", error=type(error).__name__)
            await self._service.detach(session)
        finally:
            session.over.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="whip-session")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("whip session failed", exc_info=error)


def new_etag() -> str:
    """Names one ICE session of a publisher."""
    return secrets.token_hex(8)


def _produce(transport: TransportId, kind: str, rtp_parameters: dict[str, Any]) -> m.Produce:
    return m.Produce.model_validate(
        {"transport": transport, "kind": kind, "rtp_parameters": rtp_parameters, "source": SOURCES[kind]}
    )


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
