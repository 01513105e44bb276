"""The hub at work: between HTTP and sockets, the pure hub, and the consult.

    request of a program -> the same command as a participant's -> commit -> event
    event of the consult, whoever asked for it -> notice -> every subscriber here

A subscription is in the process that has its socket, and written down so that another can go on with it
(``kept.py``). What they are told comes from the store, so it is the same on every node; who does not follow is
committed to the consult, so desks on every node see it (W19).

A long file on purpose: requests, sockets, the driver and the store's events all end in `run`, and subscriptions
stay in step with their topics only because they do. What programs ask for is ``drive.py``.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from server.clock import NowMs
from server.fhircast.aio.kept import KeptSubscriptions, restored
from server.fhircast.aio.sockets import MALFORMED_LIMIT, MAX_MESSAGE_BYTES, Socket, SocketLimits
from server.fhircast.aio.topics import Topics
from server.fhircast.aio.watch import CATCH_UP_EVENTS, Topic
from server.fhircast.core.hub import (
    CLOSE_AGAIN_LATER,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    CLOSE_POLICY,
    Action,
    Answered,
    Behind,
    Changed,
    Close,
    Ended,
    Follows,
    Hub,
    HubSettings,
    Program,
    Send,
    Subscription,
)
from server.fhircast.core.notices import Notice, current_context, present
from server.fhircast.core.refusals import HubRefusal, unknown_topic
from server.fhircast.core.requests import Subscribe, Unsubscribe, read_answer
from server.identity.core.principal import participant_id
from server.identity.core.secret import hash_secret
from server.metrics import FHIRCAST
from server.smart.aio.bearer import AccessToken, find_hashed
from server.storage import audit
from server.storage.database import Database
from server.storage.fhircast_tables import FhircastSubscription
from server.storage.models import ConsultMember
from server.storage.smart_tables import SmartClient
from signaling.aio.service import ConsultService
from signaling.core import programs
from signaling.core.admission import Admission
from signaling.core.bucket import TokenBucket
from signaling.core.errors import Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.messages import ConsultEnded
from signaling.core.model import Consult, ConsultStatus, JsonObject, ProgramTrouble, Role
from signaling.core.ports import ConsultStore, EventBus
from signaling.core.standing import Standing

log = structlog.get_logger(__name__)

ENDPOINT_BYTES = 32
MAX_ENDPOINT_CHARS = 64
SESSION_ENDED = "session ended"
MAX_BUDGETS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class FhircastSettings:
    """Times and limits of the shell."""

    hub: HubSettings = field(default_factory=HubSettings)
    socket: SocketLimits = field(default_factory=SocketLimits)
    tick_s: float = 1.0
    ping_s: float = 2.5
    """A program whose machine died says no goodbye; load balancers, too, cut what is quiet for a minute."""
    silent_s: float = 7.5
    """Three pings unanswered: who is gone is named within 10 s (W19)."""
    look_s: float = 2.0
    """How often the store is asked, hint or not."""
    rights_s: float = 10.0
    """How often every subscription's token is looked at again."""
    store_s: float = 5.0
    retry_s: float = 1.0
    requests_hz: float = 10.0
    requests_burst: int = 60
    """Of one person's program: each is a commit or a row of the log."""
    strangers: int = 64
    """Sockets at endpoints that this process does not know, while they are looked up or told so and closed."""
    sole_node: bool = True
    """No other process serves these consults: whoever has no socket here has none."""
    back_s: float = 10.0
    """How long programs may take to come back to a server that was restarted."""
    alive_s: float = 1.5
    """How often a process says that it lives: one row of the database, while a program is connected to it."""
    dead_s: float = 5.0
    """A process that has said nothing new for so long is dead, and its programs are named within 10 s (W19)."""


@dataclass(slots=True)
class _Notes:
    """What has to reach the store in its order: who follows, and the log."""

    queue: asyncio.Queue[Callable[[], Awaitable[None]]] = field(default_factory=lambda: asyncio.Queue(10_000))
    lost: int = 0


@dataclass(slots=True)
class Origins:
    """Of pages that may read our answers, and when they were read."""

    origins: frozenset[str] = frozenset()
    read_s: float = float("-inf")


class FhircastService:
    """All of it on this node."""

    def __init__(
        self,
        database: Database,
        store: ConsultStore,
        bus: EventBus,
        consults: ConsultService,
        now_ms: NowMs,
        settings: FhircastSettings | None = None,
    ) -> None:
        settings = settings or FhircastSettings()
        self.hub = Hub(settings.hub)
        self.topics = Topics(database, now_ms)
        self.database = database
        self.store = store
        self.consults = consults
        self.now_ms = now_ms
        self.origins = Origins()
        self._settings = settings
        self._topics: dict[str, Topic] = {}
        self._sockets: dict[str, Socket] = {}
        """By endpoint."""
        self.kept = KeptSubscriptions(database, now_ms)
        self._tokens: dict[str, str] = {}
        """By subscription: hash of the token it was made with, to ask whether it is still good."""
        self._over_here: set[str] = set()
        """Endpoints that are no more, and whose rows are still to be removed: nobody takes those over. (H8)"""
        self._unsaved: set[str] = set()
        """Subscriptions that are to be written down."""
        self._accused: set[str] = set()
        """Subscriptions of which was said that they do not follow."""
        self._budgets: dict[tuple[str, str | None], TokenBucket] = {}
        self._losing: set[str] = set()
        """Subscriptions of dead processes that are to be named."""
        self._strangers = 0
        self._started_s = 0.0
        self._standing = Standing(settings.dead_s, settings.alive_s)
        self._notes = _Notes()
        self._tasks: list[asyncio.Task[None]] = []
        self._spawned: set[asyncio.Task[None]] = set()
        bus.listen(self._hinted)

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to drive."""
        self._started_s = asyncio.get_running_loop().time()
        self._tasks = [
            asyncio.create_task(self._drive(), name="fhircast-drive"),
            asyncio.create_task(self._look_forever(), name="fhircast-look"),
            asyncio.create_task(self._stand_forever(), name="fhircast-standing"),
            asyncio.create_task(self._write_notes(), name="fhircast-notes"),
        ]

    async def stop(self) -> None:
        """Close the sockets before the server waits for open connections; idempotent.

        Nobody is denied, because whoever is denied does not come back: the subscriptions stay, and the endpoints are
        good again as soon as a server is there.
        """
        for socket in list(self._sockets.values()):
            socket.close(CLOSE_GOING_AWAY)
        tasks = [*self._tasks, *self._spawned]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.store_s):
                await self._notes.queue.join() if self._tasks else None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []
        self._topics.clear()

    async def is_followed(self, consult: ConsultId) -> bool:
        """Whether any program has a socket, at whatever process."""
        here = (topic.name for topic in self._topics.values() if topic.state.id == consult)
        if any(one.connected for name in here for one in self.hub.of(name)):
            return True
        async with asyncio.timeout(self._settings.store_s):
            return bool(await self.kept.connected(consult))

    # ------------------------------------------------------------ who asks

    async def topic_for(self, token: AccessToken, name: str) -> Topic:
        """The topic, caught up, for a token that may know of it.

        Raises:
            HubRefusal: 404, whether there is such a topic or not.
        """
        consult = await self.topics.consult_of(name)
        if consult is None or token.consult not in (None, consult) or await self._role(token, consult) is None:
            raise unknown_topic()
        topic = self._topics.get(name)
        if topic is None:
            async with asyncio.timeout(self._settings.store_s):
                state = await self.store.load(consult)
            if state is None:
                raise unknown_topic()
            topic = self._topics.setdefault(name, Topic(name, state))
        await self.catch_up(topic)
        return topic

    def spend(self, token: AccessToken) -> None:
        """One request of this program.

        Raises:
            HubRefusal: 429, too many.
        """
        if len(self._budgets) >= MAX_BUDGETS:
            self._budgets.clear()
        limits = self._settings.requests_hz, self._settings.requests_burst
        budget = self._budgets.setdefault((token.client, token.subject), TokenBucket(*limits))
        if not budget.take(asyncio.get_running_loop().time()):
            raise HubRefusal(429, "too_busy", "Too many requests. Please wait.")

    async def admission(self, token: AccessToken, topic: Topic) -> Admission:
        """In whose name the program asks. Whether that participant is here is the consult's own question. [PR1]"""
        role = await self._role(token, topic.state.id)
        if role is None or token.subject is None:
            raise unknown_topic()
        participant = participant_id(topic.state.id, "person", token.subject)
        return Admission(consult=topic.state.id, participant=participant, role=role, name="-")

    async def _role(self, token: AccessToken, consult: ConsultId) -> Role | None:
        if token.subject is None:
            return None
        query = select(ConsultMember.role).where(
            ConsultMember.consult_id == consult,
            ConsultMember.kind == "person",
            ConsultMember.subject_id == token.subject,
        )
        async with self.database.read() as session:
            found = await session.scalar(query)
        return None if found is None else Role(found)

    async def program(self, token: AccessToken, topic: Topic, name: str = "") -> Program:
        """The program as the token says; its own word for itself, else what it was registered as."""
        if not name:
            async with self.database.read() as session:
                name = await session.scalar(select(SmartClient.name).where(SmartClient.id == token.client)) or ""
        name = name or token.client
        subject = token.subject or ""
        key = hashlib.sha256("\n".join((topic.state.id, token.client, subject, name)).encode()).hexdigest()
        return Program(
            client=token.client,
            subject=subject,
            participant=participant_id(topic.state.id, "person", subject),
            name=name[:80],
            key=f"k_{key[:20]}",
            scopes=token.scopes,
            expires_at_ms=token.expires_at_ms,
        )

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, token: AccessToken, secret: str, request: Subscribe) -> Subscription:
        """On record before it is answered. (H1, H2, H5, H7)

        Raises:
            HubRefusal: declined.
        """
        topic = await self.topic_for(token, request.topic)
        program = await self.program(token, topic, request.name)
        if request.endpoint is not None:
            await self._known(request.endpoint)
        endpoint = secrets.token_urlsafe(ENDPOINT_BYTES)
        made, actions = self.hub.subscribe(
            request, program, self.now_ms(), endpoint=endpoint, id_=f"f_{secrets.token_hex(8)}"
        )
        topic = self._topics.setdefault(topic.name, topic)
        token_hash = hash_secret(secret)
        body = {"subscription": made.id, "client": program.client, "events": list(made.events)}
        entry = self._entry("fhircast_subscribed", topic.state.id, token.actor, body)
        try:
            async with self.database.write() as session:
                await self.kept.put(session, made, topic.state.id, token_hash)
                await audit.append(session, [entry])
        except (SQLAlchemyError, OSError, TimeoutError):
            self.run(self.hub.end(made, "not on record"))
            raise
        self._tokens[made.id] = token_hash
        self.run(actions)
        async with topic.lock:
            if made.connected and self.hub.find(made.endpoint) is made:
                self.run(self.hub.opened(made, present(topic.name, topic.state, topic.resources), self.now_ms()))
        return made

    async def _known(self, endpoint: str) -> Subscription | None:
        """The subscription of an endpoint, taken over from another process, or the one before this, if need be. (H6)"""
        found = self.hub.find(endpoint)
        row = await self.kept.find(endpoint) if found is None and endpoint not in self._over_here else None
        if row is None or endpoint in self._over_here:
            return found
        async with self.database.read() as session:
            token = await find_hashed(session, row.token_hash, self.now_ms())
        name = await self.topics.topic_of(row.consult_id)
        if token is None or name is None:
            return None
        try:
            topic = await self.topic_for(token, name)
            program = await self.program(token, topic, row.name)
            if not await self.kept.take(row):
                return self.hub.find(endpoint)
            self.hub.adopt(restored(row, endpoint, name, program))
        except HubRefusal:
            return None
        self._topics.setdefault(name, topic)
        self._tokens[row.id] = row.token_hash
        return self.hub.find(endpoint)

    async def unsubscribe(self, token: AccessToken, request: Unsubscribe, endpoint: str) -> None:
        """(H8)

        Raises:
            HubRefusal: declined.
        """
        topic = await self.topic_for(token, request.topic)
        await self._known(endpoint)
        ended, actions = self.hub.unsubscribe(topic.name, endpoint, await self.program(token, topic))
        self.run(actions)
        await self.kept.drop(ended.id)

    async def context(self, token: AccessToken, name: str) -> JsonObject:
        """What is open now, as far as the token may know; a read on record. (H26)"""
        topic = await self.topic_for(token, name)
        answer = current_context(topic.state, topic.name, topic.resources, token.scopes)
        body = {"client": token.client, "type": answer["context.type"], "version": topic.state.context_version}
        await self._audit("fhircast_context_read", topic.state.id, token.actor, body)
        return answer

    # ------------------------------------------------------------ sockets

    async def serve(self, ws: web.WebSocketResponse, endpoint: str, abort: Callable[[], None]) -> None:
        """One socket from its opening to its end; ``abort`` cuts it without ceremony."""
        subscription = self.hub.find(endpoint) or await self._stranger(ws, endpoint)
        topic = self._topics.get(subscription.topic) if subscription is not None else None
        if subscription is None or topic is None:
            return
        socket = Socket(ws, subscription, self._settings.socket, abort)
        writer = asyncio.create_task(socket.write(), name="fhircast-socket")
        try:
            try:
                await self._attach(topic, socket)
                self._spawn(self._open_shown(topic, subscription))
            except (SQLAlchemyError, OSError, TimeoutError):
                socket.close(CLOSE_AGAIN_LATER)
            while (text := await socket.read()) is not None:
                self._take(socket, text)
                if socket.malformed > MALFORMED_LIMIT:
                    self.run(self.hub.end(subscription, "malformed", CLOSE_POLICY))
                elif socket.is_flooding:
                    self.run(self.hub.end(subscription, "too many messages", CLOSE_POLICY))
        finally:
            if self._sockets.get(endpoint) is socket:
                del self._sockets[endpoint]
                if not socket.closing:
                    self.run(self.hub.closed(subscription, ws.close_code or 1006, self.now_ms()))
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _attach(self, topic: Topic, socket: Socket) -> None:
        """Confirmation and what is open, before anything that happens after. A second socket replaces the first."""
        subscription = socket.subscription
        await self.catch_up(topic)
        async with topic.lock:
            older = self._sockets.get(subscription.endpoint)
            if self.hub.find(subscription.endpoint) is not subscription:
                socket.close(CLOSE_POLICY)
                return
            self._sockets[subscription.endpoint] = socket
            if older is not None:
                older.close(CLOSE_NORMAL)
            self.run(self.hub.opened(subscription, present(topic.name, topic.state, topic.resources), self.now_ms()))

    async def _open_shown(self, topic: Topic, subscription: Subscription) -> None:
        """[AN7] The study or report that the shared page was on before any program followed. (H6)

        After the socket is there: a page that is turned from then on is opened by its turning.
        """
        try:
            async with asyncio.timeout(2 * self._settings.store_s):
                await self.consults.open_shown(topic.state.id, ParticipantId(subscription.program.participant))
                await self.catch_up(topic)
        except (Refusal, SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("fhircast page not opened", error=type(error).__name__)

    def _take(self, socket: Socket, text: str) -> None:
        answer = read_answer(text)
        if answer is None:
            socket.malformed += 1
            FHIRCAST.labels("malformed_answer").inc()
            return
        if not socket.closing:
            self.run(self.hub.answered(socket.subscription, answer, self.now_ms()))

    async def _stranger(self, ws: web.WebSocketResponse, endpoint: str) -> Subscription | None:
        """Somebody whose endpoint was made elsewhere, or is none."""
        if self._strangers >= self._settings.strangers:
            FHIRCAST.labels("strangers_full").inc()
            return None
        self._strangers += 1
        try:
            async with asyncio.timeout(2 * self._settings.store_s):
                found = await self._known(endpoint) if len(endpoint) <= MAX_ENDPOINT_CHARS else None
                if found is None:
                    await self._turn_away(ws)
                return found
        except (SQLAlchemyError, OSError, TimeoutError, RuntimeError):
            with contextlib.suppress(ConnectionError, RuntimeError):
                await ws.close(code=CLOSE_AGAIN_LATER)
            return None
        finally:
            self._strangers -= 1

    async def _turn_away(self, ws: web.WebSocketResponse) -> None:
        """Programs that come back to an endpoint that is none stop only when they are denied. (H8, H9)"""
        FHIRCAST.labels("unknown_endpoint").inc()
        with contextlib.suppress(ConnectionError, RuntimeError):
            await ws.send_json({"hub.mode": "denied", "hub.topic": "", "hub.events": "", **_NO_ENDPOINT})
            await ws.close(code=CLOSE_POLICY)

    # ------------------------------------------------------------ what the hub decided

    def run(self, actions: Iterable[Action]) -> None:
        """Carry out, in order; nothing here waits."""
        for action in actions:
            match action:
                case Send(subscription, message):
                    socket = self._sockets.get(subscription.endpoint)
                    if socket is not None and not socket.offer(message):
                        FHIRCAST.labels("too_slow").inc()
                        self.run(self.hub.overflowed(subscription))
                case Close(subscription, code):
                    socket = self._sockets.get(subscription.endpoint)
                    if socket is not None:
                        socket.close(code)
                case Behind(subscription, reason, notice):
                    self._accuse(subscription, reason, notice)
                case Follows(subscription, goodbye):
                    self._acquit(subscription, goodbye=goodbye)
                case Answered(subscription, notice, status):
                    body = {"event": notice.name, "event_id": notice.id, "status": status}
                    self._record("fhircast_answered", subscription, body)
                case Ended(subscription, why):
                    self._tokens.pop(subscription.id, None)
                    self._accused.discard(subscription.id)
                    self._record("fhircast_ended", subscription, {"why": why})
                    self._over_here.add(subscription.endpoint)
                    self._note(partial(self._remove, subscription))
                case Changed(subscription):
                    if subscription.id not in self._unsaved:
                        self._unsaved.add(subscription.id)
                        self._note(partial(self._save, subscription))

    async def _remove(self, subscription: Subscription) -> None:
        await self.kept.drop(subscription.id)
        self._over_here.discard(subscription.endpoint)

    async def _save(self, subscription: Subscription) -> None:
        """As it is now, whatever it was when this was asked for."""
        self._unsaved.discard(subscription.id)
        if self.hub.find(subscription.endpoint) is subscription and not await self.kept.save(subscription):
            self._let_go(subscription)

    def _let_go(self, subscription: Subscription) -> None:
        """Another process has it."""
        self.run(self.hub.release(subscription))
        self._tokens.pop(subscription.id, None)
        self._accused.discard(subscription.id)

    def _accuse(self, subscription: Subscription, reason: Any, notice: Notice | None) -> None:
        FHIRCAST.labels(reason).inc()
        topic = self._topics.get(subscription.topic)
        if topic is None:
            return
        trouble = ProgramTrouble(
            id=subscription.id,
            key=subscription.program.key,
            name=subscription.program.name,
            reason=reason,
            event_id=notice.id if notice is not None else "",
            event=notice.name if notice is not None else "",
            context_version=topic.state.context_version,
            at_ms=self.now_ms(),
        )
        self._accused.add(subscription.id)
        self.accuse(topic.state.id, trouble, subscription)

    def accuse(self, consult: ConsultId, trouble: ProgramTrouble, subscription: Subscription | None = None) -> None:
        """NOT IN SYNC, for everybody to see; of a subscription that has gone to another process nothing. [PR3] (W19)"""

        async def commit() -> None:
            if subscription is not None and await self.kept.owner(subscription.id) not in (self.kept.node, None):
                self._let_go(subscription)
                return
            await self._commit(consult, lambda state: programs.out_of_step(state, trouble, self.now_ms()))

        self._note(commit)

    def _acquit(self, subscription: Subscription, *, goodbye: bool) -> None:
        """It, or what is left of an earlier subscription of the same program, is in sync again. [PR4]"""
        topic = self._topics.get(subscription.topic)
        if topic is None or not (subscription.id in self._accused or topic.state.programs):
            return
        self._accused.discard(subscription.id)

        def settled(state: Consult, alive: set[str]) -> list[str]:
            own = [subscription.id] if subscription.id in state.programs else []
            if goodbye:
                return own
            return own + [
                one.id
                for one in state.programs.values()
                if one.key == subscription.program.key
                and one.id not in alive
                and (one.at_ms <= subscription.created_ms or one.id == one.key)
            ]

        async def commit() -> None:
            alive = await self.kept.connected(topic.state.id)
            for id_ in settled(await self._state(topic.state.id), alive):
                await self._commit(
                    topic.state.id,
                    lambda state, id_=id_: programs.in_step(state, id_, self.now_ms()),  # type: ignore[misc]
                )

        self._note(commit)

    async def _state(self, consult: ConsultId) -> Consult:
        state = await self.store.load(consult)
        assert state is not None, "consults are never deleted"
        return state

    async def _commit(self, consult: ConsultId, decide: Callable[[Consult], list[Any]]) -> None:
        await self.consults.note(consult, None, decide)

    # ------------------------------------------------------------ what must reach the store

    def _note(self, work: Callable[[], Awaitable[None]]) -> None:
        """When the store is away so long that this overflows, no beat was sent either and every view is blank (W19)."""
        try:
            self._notes.queue.put_nowait(work)
        except asyncio.QueueFull:
            self._notes.lost += 1
            log.error("fhircast notes overflow", lost=self._notes.lost)

    async def _write_notes(self) -> None:
        """One after the other, each until it is written."""
        while True:
            work = await self._notes.queue.get()
            try:
                await self._insist(work)
            finally:
                self._notes.queue.task_done()

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                async with asyncio.timeout(2 * self._settings.store_s):
                    await work()
                return
            except Refusal as refusal:
                if refusal.code.value != "conflict":
                    return
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                # Whatever the store's trouble is, who does not follow must be named.
                log.warning("fhircast note put off", error=type(error).__name__)
            except Exception:  # a fault of ours in one note must not keep all that come after it from being written
                FHIRCAST.labels("note_failed").inc()
                log.exception("fhircast note failed")
                return
            await asyncio.sleep(self._settings.retry_s)

    def _record(self, kind: str, subscription: Subscription, body: dict[str, Any]) -> None:
        topic = self._topics.get(subscription.topic)
        if topic is not None:
            consult, actor = topic.state.id, f"person:{subscription.program.subject}"
            told = {"subscription": subscription.id, **body}
            self._note(lambda: self._audit(kind, consult, actor, told))

    async def refused(self, token: AccessToken, topic: str, refusal: HubRefusal, what: str) -> None:
        """What was declined is on record too; a topic that is none belongs to no consult."""
        consult = await self.topics.consult_of(topic) if topic else None
        body = {"client": token.client, "what": what, "code": refusal.code}
        await self._audit("fhircast_refused", consult, token.actor, body)

    async def _audit(self, kind: str, consult: str | None, actor: str, body: dict[str, Any]) -> None:
        entry = self._entry(kind, consult, actor, body)
        async with self.database.write() as session:
            await audit.append(session, [entry])

    def _entry(self, kind: str, consult: str | None, actor: str, body: dict[str, Any]) -> audit.Entry:
        return audit.Entry(kind=kind, at_ms=self.now_ms(), actor=actor, body=body, consult_id=consult)

    # ------------------------------------------------------------ following the consult

    async def _hinted(self, consult: ConsultId, revision: int) -> None:
        for topic in list(self._topics.values()):
            if topic.state.id == consult and revision > topic.state.revision and not topic.hinted:
                topic.hinted = True
                self._spawn(self._catch_up_hinted(topic))

    async def _catch_up_hinted(self, topic: Topic) -> None:
        topic.hinted = False
        try:
            await self.catch_up(topic)
        except Exception as error:  # the next look finds what this one did not
            log.warning("fhircast hint not followed", error=type(error).__name__)

    async def catch_up(self, topic: Topic) -> None:
        """Tell what the store knows and the programs do not.

        Raises:
            Whatever the store raises; nothing was told then that will not be told again.
        """
        async with topic.lock, asyncio.timeout(2 * self._settings.store_s):
            if not topic.is_loaded:
                await topic.load_resources(self.database, topic.state)
            events = await self.store.events_since(topic.state.id, topic.state.revision, CATCH_UP_EVENTS)
            if events is None:
                await self._jump(topic)
                return
            for event in events:
                notices = await topic.fold(self.database, event)
                if self._topics.get(topic.name) is not topic:
                    continue  # another request follows this consult by now, and tells of it
                self.run(self.hub.tell(topic.name, notices, self.now_ms()))
                if isinstance(event, ConsultEnded):
                    self._over(topic)

    async def _jump(self, topic: Topic) -> None:
        state = await self._state(topic.state.id)
        await topic.load_resources(self.database, state)
        topic.jump(state)
        now = present(topic.name, state, topic.resources)
        self.run(self.hub.resynced(topic.name, now, self.now_ms()))
        if state.status is ConsultStatus.ENDED:
            self._over(topic)

    def _over(self, topic: Topic) -> None:
        """The consult has ended, and its topic with it."""
        self.run(self.hub.end_topic(topic.name, SESSION_ENDED))
        self._topics.pop(topic.name, None)

    # ------------------------------------------------------------ time

    async def _drive(self) -> None:
        """The one heartbeat of all sockets, and everything that time alone does."""
        loop = asyncio.get_running_loop()
        pinged_s = loop.time()
        while True:
            await asyncio.sleep(self._settings.tick_s)
            self.run(self.hub.tick(self.now_ms()))
            now_s = loop.time()
            for socket in list(self._sockets.values()):
                if not socket.closing and socket.is_silent(now_s, self._settings.silent_s):
                    self.run(self.hub.unheard(socket.subscription, self.now_ms()))
            if now_s - pinged_s >= self._settings.ping_s:
                pinged_s = now_s
                await asyncio.gather(*(socket.ping() for socket in list(self._sockets.values())))
            for name in set(self._topics) - self.hub.topics:
                self._forget(name)

    def _forget(self, name: str) -> None:
        topic = self._topics[name]
        if not topic.lock.locked():
            del self._topics[name]

    async def _look_forever(self) -> None:
        since_s = 0.0
        while True:
            await asyncio.sleep(self._settings.look_s)
            since_s += self._settings.look_s
            for topic in list(self._topics.values()):
                try:
                    await self.catch_up(topic)
                except Exception as error:  # a store that is away is asked again at the next look
                    log.warning("fhircast look failed", error=type(error).__name__)
            if since_s >= self._settings.rights_s:
                since_s = 0.0
                try:
                    await self._look_at_rights()
                    await self.kept.sweep()
                except (SQLAlchemyError, OSError, TimeoutError, Refusal) as error:
                    log.warning("fhircast rights not looked at", error=type(error).__name__)

    async def _look_at_rights(self) -> None:
        """A token that was revoked ends what it was used for, and so does a membership taken back. (H5, H9)"""
        # One that is being written down has no token here yet: nobody can have it instead.
        before = {one.id for name in self.hub.topics for one in self.hub.of(name) if one.id in self._tokens}
        mine = await self.kept.still_mine()
        for name in self.hub.topics:
            for one in self.hub.of(name):
                token_hash = self._tokens.get(one.id)
                if token_hash is None:
                    continue  # not on record yet
                if one.id in before - mine:
                    self._let_go(one)
                    continue
                async with self.database.read() as session:
                    token = await find_hashed(session, token_hash, self.now_ms())
                topic = self._topics.get(name)
                if token is None or topic is None or await self._role(token, topic.state.id) is None:
                    self.run(self.hub.end(one, "not allowed any more", CLOSE_POLICY))
                elif one.id in topic.state.programs and one.in_step:
                    # Another process took this one for dead, and wrote so.
                    self.run([Follows(one), Changed(one)])

    async def _stand_forever(self) -> None:
        """In a task of its own: a topic that is slow to catch up must not make this process look dead."""
        while True:
            await asyncio.sleep(self._settings.alive_s)
            try:
                async with asyncio.timeout(self._settings.store_s):
                    await self._say_alive()
                    await self._look_for_lost()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("fhircast standing not looked at", error=type(error).__name__)

    async def _say_alive(self) -> None:
        """Nobody asks after a process without programs, and nobody else is there to ask where it is the only one."""
        if self._settings.sole_node:
            return
        for name in self.hub.topics:
            for one in self.hub.of(name):
                if one.connected and await self.kept.alive(one.id):
                    return

    async def _look_for_lost(self) -> None:
        """Who was connected to a process that died, and has not come back, may still show a patient. (H19) (W19)"""
        now_s = asyncio.get_running_loop().time()
        words = await self.kept.last_words()
        if self._settings.sole_node:
            dead = set(words) if now_s - self._started_s >= self._settings.back_s else set()
        else:
            dead = self._standing.look(words, now_s)
        for row in await self.kept.orphans(dead) if dead else ():
            if row.id not in self._losing:
                self._losing.add(row.id)
                self._note(partial(self._lose, row, words[row.node]))

    async def _lose(self, row: FhircastSubscription, since_ms: int) -> None:
        """Named first and then written down as lost: whoever dies in between leaves it to the next that looks.

        To name it twice changes nothing.
        """
        self._losing.discard(row.id)
        if not await self.kept.is_orphan(row):
            return
        if not await self.kept.is_succeeded(row, since_ms):
            await self._name_lost(row)
        await self.kept.lost(row)

    async def _name_lost(self, row: FhircastSubscription) -> None:
        FHIRCAST.labels("lost").inc()
        consult = ConsultId(row.consult_id)

        def lost(state: Consult) -> list[Any]:
            trouble = ProgramTrouble(
                id=row.id,
                key=row.key,
                name=row.name,
                reason="lost",
                context_version=state.context_version,
                at_ms=row.seen_at_ms,
            )
            return programs.out_of_step(state, trouble, self.now_ms())

        await self._commit(consult, lost)
        if await self.kept.owner(row.id) != row.node:  # back meanwhile: its process knows better whether it follows
            await self._commit(consult, lambda state: programs.in_step(state, row.id, self.now_ms()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)


_NO_ENDPOINT = {"hub.reason": "This endpoint is not in use. Subscribe again."}

FHIRCAST_SERVICE: web.AppKey[FhircastService] = web.AppKey("fhircast", FhircastService)
SOCKET_OPTIONS: dict[str, Any] = {"autoping": False, "max_msg_size": MAX_MESSAGE_BYTES, "compress": False}

__all__ = ["FHIRCAST_SERVICE", "SOCKET_OPTIONS", "FhircastService", "FhircastSettings"]
