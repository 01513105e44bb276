"""The subscriptions of one process: who is told what, who has answered, and whose time is up.

No clock and no socket: every call takes the time and returns what is to be done. Whether the *consult* considers a
program out of sync is not kept here but in the consult (`signaling.core.programs`), because desks on other nodes
must see it too; this hub finds out and says so (`Behind`, `Follows`).

A subscription outlives its socket, and the process that it was made in: whoever is cut off comes back to the same
endpoint while the lease lives and is told what is open (H6). One that does not answer is ended (H18): an application
that hangs must be noticed by its user, not only by us.

Whether a program is in step is judged by what is open, type by type: one that refused the patient is not in step
because it then followed the closing of a study.

A long file on purpose: telling, answering, sockets and time all change the same few fields of a subscription, and
whether it is in step follows only from all of them together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from server.fhircast.core import names
from server.fhircast.core.notices import Notice, derived_id
from server.fhircast.core.refusals import HubRefusal
from server.fhircast.core.requests import Answer, Subscribe
from server.smart.core.scopes import Scopes
from signaling.core.model import JsonObject

Reason = Literal["refused", "failed", "silent", "lost", "slow"]

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_POLICY = 1008
CLOSE_AGAIN_LATER = 1013
MAX_WAITING = 256
"""Events that one subscriber may leave unanswered: more than a consult makes in ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """Times and limits."""

    answer_ms: int = 10_000
    """H18."""
    decide_ms: int = 10_000
    """How long who answered 202 may take to refuse after all (H16)."""
    again_ms: int = 10_000
    """H22: whatever is not followed is told again by the hub, whoever asked for it."""
    connect_ms: int = 60_000
    """How long an endpoint waits for its first socket (H2)."""
    default_lease_ms: int = 7_200_000
    longest_lease_ms: int = 12 * 3_600_000
    per_topic: int = 64
    per_program: int = 8
    """Of one program of one person in a topic; beyond that the oldest that has no socket gives way."""
    in_all: int = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Who subscribes, as the token and the form say."""

    client: str
    subject: str
    participant: str
    name: str
    key: str
    """The same for the same program of the same person in the same topic."""
    scopes: Scopes
    expires_at_ms: int


@dataclass(slots=True)
class Waiting:
    """An event that was told and is not settled."""

    notice: Notice
    until_ms: int
    deciding: bool = False


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One program's interest in one topic."""

    id: str
    """Public: goes into the log and the consult."""
    endpoint: str
    """Secret: the last part of its socket's URL. (H2)"""
    topic: str
    program: Program
    events: tuple[str, ...]
    created_ms: int
    lease_until_ms: int
    connect_until_ms: int | None
    connected: bool = False
    waiting: dict[str, Waiting] = field(default_factory=dict)
    newest: Notice | None = None
    """The last event that it has to follow."""
    latest: dict[str, Notice] = field(default_factory=dict)
    """The last opening or closing that it was told, by type; what is opened beside a patient goes with the patient."""
    shown: dict[str, Notice] = field(default_factory=dict)
    """What it was told is open, by type."""
    behind: Reason | None = None
    unfollowed: set[str] = field(default_factory=set)
    """Types of which it does not show the latest. While there are any it is behind."""
    again_ms: int | None = None
    """When the hub tells what is not followed once more."""

    def hears(self, notice: Notice) -> bool:
        """SyncErrors nobody opts out of: who follows the wrong patient is everybody's business."""
        if notice.skip == self.id or (notice.only is not None and notice.only != self.program.participant):
            return False
        return notice.name == names.SYNC_ERROR or (
            notice.name in self.events and self.program.scopes.allows_event(notice.name, "read")
        )

    @property
    def in_step(self) -> bool:
        """It has a socket and shows what it was told."""
        return self.connected and self.behind is None and not self.waiting

    @property
    def granted(self) -> str:
        """``hub.events`` of confirmations and denials."""
        return ",".join(dict.fromkeys((*self.events, names.SYNC_ERROR)))


# ---------------------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on a subscription's socket."""

    subscription: Subscription
    message: JsonObject


@dataclass(frozen=True, slots=True)
class Close:
    """End its socket."""

    subscription: Subscription
    code: int


@dataclass(frozen=True, slots=True)
class Behind:
    """It does not show what is open. (H17-H19)"""

    subscription: Subscription
    reason: Reason
    notice: Notice | None


@dataclass(frozen=True, slots=True)
class Follows:
    """It shows what is open now, or said goodbye: whatever was said of it before is settled."""

    subscription: Subscription
    goodbye: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """For the log: what it said to an event."""

    subscription: Subscription
    notice: Notice
    status: int


@dataclass(frozen=True, slots=True)
class Ended:
    """For the log: the subscription is no more."""

    subscription: Subscription
    why: str


@dataclass(frozen=True, slots=True)
class Changed:
    """To be written down, so that it outlives this process: whether it has a socket, what it shows, its lease."""

    subscription: Subscription


Action = Send | Close | Behind | Follows | Answered | Ended | Changed


class Hub:
    """All subscriptions of a process."""

    def __init__(self, settings: HubSettings = HubSettings()) -> None:
        self.settings = settings
        self._by_endpoint: dict[str, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_endpoint)

    def find(self, endpoint: str) -> Subscription | None:
        """The subscription of an endpoint, while it lives."""
        return self._by_endpoint.get(endpoint)

    def of(self, topic: str) -> list[Subscription]:
        """All of a topic."""
        return [one for one in self._by_endpoint.values() if one.topic == topic]

    @property
    def topics(self) -> set[str]:
        """Topics that somebody subscribed to."""
        return {one.topic for one in self._by_endpoint.values()}

    # ------------------------------------------------------------ subscribing

    def subscribe(
        self, request: Subscribe, program: Program, now_ms: int, *, endpoint: str, id_: str
    ) -> tuple[Subscription, list[Action]]:
        """A new subscription, or another list and lease for one that there is. (H1, H2, H5, H7)

        Args:
            endpoint, id_: random, for a new one.

        Raises:
            HubRefusal: 403: no scope covers any of the events; 404: the endpoint is not the asker's; 503: full.
        """
        events = tuple(one for one in request.events if program.scopes.allows_event(one, "read"))
        if not events:
            raise HubRefusal(403, "not_allowed", "The token's scopes cover none of these events.")
        lease_until_ms = self._lease(request, program, now_ms)
        if request.endpoint is not None:
            return self._replace(request, program, events, lease_until_ms)
        given_up = self._room(request.topic, program)
        made = Subscription(
            id=id_,
            endpoint=endpoint,
            topic=request.topic,
            program=program,
            events=events,
            created_ms=now_ms,
            lease_until_ms=lease_until_ms,
            connect_until_ms=now_ms + self.settings.connect_ms,
        )
        self._by_endpoint[endpoint] = made
        return made, given_up

    def adopt(self, subscription: Subscription) -> None:
        """Take over one that was made in another process. (H6)

        Raises:
            HubRefusal: 503: full.
        """
        if len(self) >= self.settings.in_all:
            raise HubRefusal(503, "too_busy", "There are too many subscriptions.")
        self._by_endpoint.setdefault(subscription.endpoint, subscription)

    def release(self, subscription: Subscription) -> list[Action]:
        """Another process has it now: nothing is said, and nothing that happens to it here counts any more."""
        if self._by_endpoint.get(subscription.endpoint) is not subscription:
            return []
        del self._by_endpoint[subscription.endpoint]
        had_socket, subscription.connected = subscription.connected, False
        return [Close(subscription, CLOSE_GOING_AWAY)] if had_socket else []

    def _room(self, topic: str, program: Program) -> list[Action]:
        """For one more: a program that starts anew each time leaves endpoints behind that nobody will come to."""
        mine = [one for one in self.of(topic) if _same_program(one.program, program.client, program.subject)]
        given_up: list[Action] = []
        if len(mine) >= self.settings.per_program:
            idle = min((one for one in mine if not one.connected), key=lambda one: one.created_ms, default=None)
            if idle is not None:
                given_up = self.end(idle, "too many of one program")
        over = len(mine) - bool(given_up) >= self.settings.per_program
        if over or len(self) >= self.settings.in_all or len(self.of(topic)) >= self.settings.per_topic:
            raise HubRefusal(503, "too_busy", "There are too many subscriptions.")
        return given_up

    def _lease(self, request: Subscribe, program: Program, now_ms: int) -> int:
        """Never longer than the token. (H5)"""
        asked_ms = self.settings.default_lease_ms if request.lease_s is None else request.lease_s * 1000
        return min(now_ms + min(asked_ms, self.settings.longest_lease_ms), program.expires_at_ms)

    def _replace(
        self, request: Subscribe, program: Program, events: tuple[str, ...], lease_until_ms: int
    ) -> tuple[Subscription, list[Action]]:
        found = self._own(request.topic, request.endpoint or "", program)
        found.events, found.lease_until_ms = events, lease_until_ms
        found.program = replace(program, name=request.name or found.program.name, key=found.program.key)
        return found, [Changed(found)]

    def unsubscribe(self, topic: str, endpoint: str, asker: Program) -> tuple[Subscription, list[Action]]:
        """Over HTTP: denied, closed, and never to be used again. (H8)

        Raises:
            HubRefusal: 404.
        """
        found = self._own(topic, endpoint, asker)
        return found, [Follows(found, goodbye=True), *self.end(found, "unsubscribed")]

    def _own(self, topic: str, endpoint: str, asker: Program) -> Subscription:
        found = self._by_endpoint.get(endpoint)
        own = found is not None and (found.topic, found.program.client, found.program.subject) == (
            topic,
            asker.client,
            asker.subject,
        )
        if found is None or not own:
            raise HubRefusal(404, "not_found", "There is no such subscription of this program.")
        return found

    def end(self, subscription: Subscription, why: str, code: int = CLOSE_NORMAL) -> list[Action]:
        """Say that it is over and forget it. (H5, H9)"""
        if self._by_endpoint.pop(subscription.endpoint, None) is None:
            return []
        ended: list[Action] = [Ended(subscription, why)]
        if not subscription.connected:
            return ended
        denied = {
            "hub.mode": "denied",
            "hub.topic": subscription.topic,
            "hub.events": subscription.granted,
            "hub.reason": why,
        }
        subscription.connected = False
        return [Send(subscription, denied), Close(subscription, code), *ended]

    def end_topic(self, topic: str, why: str) -> list[Action]:
        """The session is over. (H9)"""
        return [action for one in self.of(topic) for action in self.end(one, why)]

    # ------------------------------------------------------------ sockets

    def opened(self, subscription: Subscription, present: Iterable[Notice], now_ms: int) -> list[Action]:
        """Its socket is there: what was granted, then what is open. (H4, H6)"""
        subscription.connected, subscription.connect_until_ms = True, None
        subscription.waiting.clear()
        subscription.latest.clear()
        told = [*_missed(subscription, present := list(present)), *present]
        confirmation = {
            "hub.mode": "subscribe",
            "hub.topic": subscription.topic,
            "hub.events": subscription.granted,
            "hub.lease_seconds": max(0, (subscription.lease_until_ms - now_ms) // 1000),
        }
        actions: list[Action] = [Send(subscription, confirmation), *self._tell(subscription, told, now_ms)]
        if subscription.behind is not None:
            subscription.unfollowed = set(subscription.latest)
            if not subscription.unfollowed:
                subscription.behind = None
                actions.append(Follows(subscription))  # nothing is open and it shows nothing
        return [*actions, Changed(subscription)]

    def resynced(self, topic: str, present: Iterable[Notice], now_ms: int) -> list[Action]:
        """Too much happened to tell it one by one: what is open now, and closings of what is not any more. (H6)"""
        now = list(present)
        connected = [one for one in self.of(topic) if one.connected]
        return [action for one in connected for action in self._tell(one, [*_missed(one, now), *now], now_ms)]

    def closed(self, subscription: Subscription, code: int, now_ms: int) -> list[Action]:
        """Its socket is gone. Who says goodbye is not missed; who is cut off may still show something. (H19)"""
        if self._by_endpoint.get(subscription.endpoint) is not subscription or not subscription.connected:
            return []
        subscription.connected = False
        subscription.waiting.clear()
        subscription.connect_until_ms = subscription.again_ms = None
        if code in (CLOSE_NORMAL, CLOSE_GOING_AWAY):
            subscription.behind = None
            subscription.unfollowed.clear()
            subscription.shown.clear()
            return [Follows(subscription, goodbye=True), Changed(subscription)]
        return [*self._behind(subscription, "lost", subscription.newest), Changed(subscription)]

    def overflowed(self, subscription: Subscription) -> list[Action]:
        """It does not read: nothing is kept for it for ever."""
        return [*self._behind(subscription, "slow", subscription.newest), *self._drop(subscription, "too slow")]

    def unheard(self, subscription: Subscription, now_ms: int) -> list[Action]:
        """No sign of life from its socket. (H19)"""
        return [Close(subscription, CLOSE_GOING_AWAY), *self.closed(subscription, 1006, now_ms)]

    def _drop(self, subscription: Subscription, why: str) -> list[Action]:
        return self.end(subscription, why, CLOSE_AGAIN_LATER if why == "too slow" else CLOSE_POLICY)

    # ------------------------------------------------------------ events

    def tell(self, topic: str, notices: Iterable[Notice], now_ms: int) -> list[Action]:
        """To everyone in the topic, the one who asked for it included. (H14)"""
        told = list(notices)
        return [action for one in self.of(topic) if one.connected for action in self._tell(one, told, now_ms)]

    def tell_asker(self, topic: str, client: str, subject: str, notice: Notice, now_ms: int) -> list[Action]:
        """A SyncError that concerns one program's request only. (H13)"""
        asker = [one for one in self.of(topic) if (one.program.client, one.program.subject) == (client, subject)]
        return [action for one in asker if one.connected for action in self._tell(one, [notice], now_ms)]

    def tell_again(self, topic: str, id_: str, now_ms: int) -> list[Action]:
        """Its initiator sends an event once more: to those that are not in sync. (H22)"""
        actions: list[Action] = []
        for one in self.of(topic):
            if one.connected and any(one.latest[kind].id == id_ for kind in one.unfollowed & one.latest.keys()):
                actions += self._again(one, now_ms)
        return actions

    def _again(self, one: Subscription, now_ms: int) -> list[Action]:
        """Everything that it does not show, the same events as they were; what it has yet to answer is not repeated."""
        one.again_ms = None
        told = [n for kind, n in one.latest.items() if kind in one.unfollowed and n.id not in one.waiting]
        for notice in told:
            one.waiting[notice.id] = Waiting(notice, now_ms + self.settings.answer_ms)
        return [Send(one, notice.wire(one.topic, one.program.scopes)) for notice in told]

    def _tell(self, one: Subscription, notices: Iterable[Notice], now_ms: int) -> list[Action]:
        actions: list[Action] = []
        changes = False
        for notice in notices:
            if not one.hears(notice):
                continue
            actions.append(Send(one, notice.wire(one.topic, one.program.scopes)))
            if names.is_answered(notice.name):
                if notice.name.endswith(("-open", "-close")):
                    changes = True
                    _show(one, notice)
                one.waiting[notice.id] = Waiting(notice, now_ms + self.settings.answer_ms)
        if len(one.waiting) > MAX_WAITING:
            return [*actions, *self.overflowed(one)]
        return [*actions, Changed(one)] if changes else actions

    def answered(self, one: Subscription, answer: Answer, now_ms: int) -> list[Action]:
        """What it says to an event; an answer to nothing that waits says nothing. (H15, H16, H17, H20)

        Who has answered 202 may still answer what it has decided.
        """
        waiting = one.waiting.get(answer.id)
        if waiting is None or (waiting.deciding and answer.status == 202):
            return []
        heard = Answered(one, waiting.notice, answer.status)
        if answer.status == 202:
            waiting.deciding, waiting.until_ms = True, now_ms + self.settings.decide_ms
            return [heard]
        del one.waiting[answer.id]
        if 200 <= answer.status < 300:
            return [heard, *self._follows(one, waiting.notice)]
        return [heard, *self._refused(one, waiting.notice, "failed" if answer.status >= 500 else "refused", now_ms)]

    def blamed(self, topic: str, client: str, subject: str, id_: str, now_ms: int, *, name: str = "") -> list[Action]:
        """A subscriber sends a SyncError of its own: it will not follow after all. (H16)

        Args:
            name: which of the program's windows, where it says so.
        """
        mine = [one for one in self.of(topic) if _same_program(one.program, client, subject)]
        named = [one for one in mine if one.program.name == name]
        actions: list[Action] = []
        for one in named or mine:
            waiting = one.waiting.pop(id_, None)
            told = [waiting.notice] if waiting is not None else [n for n in one.latest.values() if n.id == id_]
            for notice in told:
                actions += self._refused(one, notice, "refused", now_ms)
        return actions

    def _refused(self, one: Subscription, notice: Notice, reason: Reason, now_ms: int) -> list[Action]:
        kind = names.kind_of(notice.name)
        one.unfollowed.add(kind)
        if kind in one.latest:
            one.again_ms = now_ms + self.settings.again_ms
        return self._behind(one, reason, notice)

    def _behind(self, one: Subscription, reason: Reason, notice: Notice | None) -> list[Action]:
        one.behind = reason
        return [Behind(one, reason, notice)]

    def _follows(self, one: Subscription, notice: Notice) -> list[Action]:
        """Only the latest of a type counts: who followed an older event may still show the older patient. (H21)

        Who shows a study or a report shows its patient. Who closed one may show any patient.
        """
        kind = names.kind_of(notice.name)
        if one.latest.get(kind, notice) is not notice:
            return []
        one.unfollowed -= {kind, names.USER}
        if notice.name.endswith("-open"):
            one.unfollowed.discard(names.PATIENT)
        undecided = any(one.latest.get(names.kind_of(w.notice.name)) is w.notice for w in one.waiting.values())
        if one.unfollowed or undecided:
            return []
        one.behind, one.again_ms = None, None
        return [Follows(one)]

    # ------------------------------------------------------------ time

    def tick(self, now_ms: int) -> list[Action]:
        """What time alone does: silence, decisions that stand, leases, endpoints nobody came to. (H5, H16, H18, H22)"""
        return [action for one in list(self._by_endpoint.values()) for action in self._look(one, now_ms)]

    def _look(self, one: Subscription, now_ms: int) -> list[Action]:
        if now_ms >= one.lease_until_ms:
            return self.end(one, "lease expired")
        if one.connect_until_ms is not None and now_ms >= one.connect_until_ms:
            return self.end(one, "nobody connected")
        late = [waiting for waiting in one.waiting.values() if now_ms >= waiting.until_ms]
        silent = [waiting for waiting in late if not waiting.deciding]
        if silent:
            return [*self._behind(one, "silent", silent[0].notice), *self._drop(one, "no answer in time")]
        actions: list[Action] = []
        for waiting in late:
            del one.waiting[waiting.notice.id]
            actions += self._follows(one, waiting.notice)
        if one.connected and one.again_ms is not None and now_ms >= one.again_ms:
            actions += self._again(one, now_ms)
        return actions


def _same_program(program: Program, client: str, subject: str) -> bool:
    return (program.client, program.subject) == (client, subject)


def _show(one: Subscription, notice: Notice) -> None:
    """It is told an opening or closing. What was opened beside a patient goes with the patient. (H21, H27)"""
    kind = names.kind_of(notice.name)
    if kind == names.PATIENT:
        one.latest.clear()
        one.shown.clear()
        if one.unfollowed - {names.USER}:
            one.unfollowed = {names.PATIENT}
    if one.unfollowed <= {kind, names.USER}:
        one.again_ms = None
    one.newest = one.latest[kind] = notice
    if notice.name.endswith("-close"):
        one.shown.pop(kind, None)
    elif notice.name != names.HOME_OPEN:
        one.shown[kind] = notice


def _missed(one: Subscription, present: list[Notice]) -> list[Notice]:
    """Closings of what it was told is open and is not any more: it was away when they happened."""
    still = {notice.name for notice in present}
    gone = [notice for notice in one.shown.values() if notice.name not in still]
    return [
        replace(
            notice,
            id=derived_id(one.topic, notice.id, "missed"),
            name=notice.name.replace("-open", "-close"),
            version=None,
        )
        for notice in gone
    ]
