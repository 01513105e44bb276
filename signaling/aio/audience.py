"""The sessions of one consult on this node, and the state they have been told.

``state`` is the fold of every event delivered so far: what a command is decided
against (compare-and-set finds out when another node was faster), what a beat
vouches for, and what a newcomer gets as its snapshot.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from signaling.core.admission import Admission
from signaling.core.bucket import TokenBucket
from signaling.core.fold import apply
from signaling.core.frames import encode_event
from signaling.core.ids import ParticipantId, TransportId
from signaling.core.messages import AnyEvent, AnySignal
from signaling.core.model import Consult
from signaling.core.signals import key_of

MAX_TAKEN_BACK = 64
"""A participant has 13 at most; which of them were stored is known with the next beat."""
BEAT_PARTS = 20
"""Moments of the interval between beats; each consult has one of them."""


class Peer(Protocol):
    """A session, as far as the consult is concerned."""

    admission: Admission
    goodbye_reason: str | None
    hears: bool
    """There is a page that stops sending when it is told goodbye; else its media is ended for it. [SE15]"""

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        """Send without waiting; with ``key``, a signal."""

    def hold_events(self) -> None:
        """Keep events back until the running command is answered."""

    def goodbye(self, reason: str) -> None:
        """Say why, then close."""


class Audience:
    """One consult on this node."""

    def __init__(self, state: Consult) -> None:
        self.state = state
        self.lock = asyncio.Lock()
        """Held from decision to delivery, so that events leave in revision order."""
        self.peers: dict[ParticipantId, Peer] = {}
        self.admitted: dict[ParticipantId, Admission] = {}
        """By what right each participant who is here, or was a moment ago, came in. [SE12]"""
        self.graces: dict[ParticipantId, asyncio.TimerHandle] = {}
        self.lost: set[ParticipantId] = set()
        """Whose socket is lost, and whose loss is not stored yet; none of them is among the peers. [SE3]"""
        self.overdue: set[ParticipantId] = set()
        """Whose grace time is over, and whose removal is not stored yet. [SE4]"""
        self.removing = False
        """Somebody sees to those."""
        self.elsewhere: set[ParticipantId] = set()
        """Whom another process has, or may have, since it was last told of them here. [SE8]"""
        self.silent_transports: dict[ParticipantId, set[TransportId]] = {}
        self.views: dict[ParticipantId, TokenBucket] = {}
        """How often each participant may still say what it looks at. [ME12]"""
        self.budgets: dict[ParticipantId, dict[str, TokenBucket]] = {}
        """How often each participant may still ask for what stays in the log, by command."""
        self.arrivals = 0
        """Joins under way."""
        self.hinted = 0
        """The newest revision that another node has named, while it is being asked for; else 0."""
        self.taken_back: deque[str] = deque(maxlen=MAX_TAKEN_BACK)
        """Sources that the relay has closed although they may have been stored: nobody learnt whether. [ME9]"""
        self.beats_at = zlib.crc32(state.id.encode()) % BEAT_PARTS
        self.refreshing = False
        """A beat is under way: it waits for the store."""

    def tell(self, events: Iterable[AnyEvent]) -> list[AnyEvent]:
        """Fold events that are new here and pass them on; returns those."""
        told: list[AnyEvent] = []
        for event in events:
            if event.revision <= self.state.revision:
                continue
            self.state = apply(self.state, event)
            if self.peers:
                frame = encode_event("event", event.model_dump(mode="json"))
                for peer in list(self.peers.values()):
                    peer.deliver(frame)
            told.append(event)
        return told

    def signal(self, signal: AnySignal, skip: Peer | None = None) -> None:
        """Pass a signal to everyone but ``skip``."""
        frame = encode_event("signal", signal.model_dump(mode="json"))
        for peer in self.peers.values():
            if peer is not skip:
                peer.deliver(frame, key_of(signal))

    def whisper(self, participant: ParticipantId, signal: AnySignal) -> None:
        """Pass a signal to one participant, if it has a session here."""
        peer = self.peers.get(participant)
        if peer is not None:
            peer.deliver(encode_event("signal", signal.model_dump(mode="json")), key_of(signal))

    def stop_grace(self, participant: ParticipantId) -> None:
        """The participant is back, or gone for good."""
        self.overdue.discard(participant)
        timer = self.graces.pop(participant, None)
        if timer is not None:
            timer.cancel()

    def forget(self, participant: ParticipantId) -> None:
        """Drop everything kept about one participant."""
        self.stop_grace(participant)
        self.peers.pop(participant, None)
        self.lost.discard(participant)
        self.admitted.pop(participant, None)
        self.silent_transports.pop(participant, None)
        self.views.pop(participant, None)
        self.budgets.pop(participant, None)

    @property
    def deserted(self) -> bool:
        """Nobody is here, on the way or may come back."""
        return not (self.peers or self.graces or self.arrivals or self.state.participants)
