"""ICE-lite for one Transport: credentials, learnt addresses, nomination, consent.

A lite agent only answers (RFC 8445 section 2.5): the client checks, the client nominates. So all
that is left to decide is which authenticated check changes what:

* an address is learnt only from a check whose MESSAGE-INTEGRITY was verified, at most
  ``MAX_ADDRESSES`` at a time;
* USE-CANDIDATE moves the media to that address;
* an ICE restart adds a second generation of credentials. The first stays valid until a check
  nominates with the second, however long that takes: some clients go on with the old ones
  (ORTC trap 19);
* checks are the consent to receive (RFC 7675): none for 7 s is unstable, none for 30 s closes. Nor does a peer
  that has said it connects have longer than 30 s for its first; one that has not said so may take its time.

Parsing and answering STUN is ``media.aio.stun``; the time is an argument.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Address = tuple[Any, ...]
"""A socket address as the socket gives it: hashable, host first, port second."""

MAX_ADDRESSES = 8
UNSTABLE_AFTER_MS = 7_000
CLOSED_AFTER_MS = 30_000


class Consent(StrEnum):
    """What the last checks say about the path (ARCHITECTURE section 8)."""

    NEW = "new"
    CONNECTED = "connected"
    UNSTABLE = "unstable"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Credentials:
    """One generation: at least 4 and 22 characters of the ice-char alphabet (RFC 8839 section 5.4)."""

    ufrag: str
    password: str


@dataclass(slots=True)
class CheckOutcome:
    """What one authenticated check changed."""

    learnt: bool = False
    moved: bool = False
    """Media goes to another address now (also true for the first)."""
    evicted: Address | None = None
    retired_ufrags: list[str] = field(default_factory=list)


class IceLite:
    """State of one lite agent."""

    def __init__(self, credentials: Credentials) -> None:
        self.current = credentials
        self._generations: dict[str, Credentials] = {credentials.ufrag: credentials}
        self._nominated_ufrag: str | None = None
        self._last_seen_ms: dict[Address, int] = {}
        self._last_check_ms: int | None = None
        self._awaited_since_ms: int | None = None
        self.selected: Address | None = None
        self.consent = Consent.NEW

    @property
    def addresses(self) -> list[Address]:
        """Every learnt address."""
        return list(self._last_seen_ms)

    @property
    def ufrags(self) -> list[str]:
        """Every ufrag a check may carry."""
        return list(self._generations)

    def password(self, ufrag: str) -> str | None:
        """Key of MESSAGE-INTEGRITY for a generation that is still valid."""
        credentials = self._generations.get(ufrag)
        return None if credentials is None else credentials.password

    def restart(self, credentials: Credentials) -> list[str]:
        """Add a generation; keep the one in use. Returns ufrags that are no longer valid."""
        in_use = self._nominated_ufrag or next(iter(self._generations))
        retired = [ufrag for ufrag in self._generations if ufrag != in_use]
        for ufrag in retired:
            del self._generations[ufrag]
        self._generations[credentials.ufrag] = credentials
        self.current = credentials
        return retired

    def expect(self, now_ms: int) -> None:
        """The peer has said that it connects: from now on a first check is due. Later calls change nothing."""
        if self._awaited_since_ms is None:
            self._awaited_since_ms = now_ms

    def check(self, ufrag: str, address: Address, use_candidate: bool, now_ms: int) -> CheckOutcome:
        """Take in one check that was authenticated with the password of ``ufrag``."""
        outcome = CheckOutcome()
        self._last_check_ms = now_ms
        if address not in self._last_seen_ms:
            outcome.learnt = True
            outcome.evicted = self._make_room()
        self._last_seen_ms[address] = now_ms
        if use_candidate:
            self._nominated_ufrag = ufrag
            if ufrag == self.current.ufrag and len(self._generations) > 1:
                outcome.retired_ufrags = [old for old in self._generations if old != ufrag]
                self._generations = {ufrag: self._generations[ufrag]}
        if (use_candidate or self.selected is None) and self.selected != address:
            self.selected = address
            outcome.moved = True
        return outcome

    def checked_again(self, address: Address, now_ms: int) -> None:
        """Checks went on coming that say what the last one from there said: they only keep consent."""
        seen_ms = self._last_seen_ms.get(address)
        if seen_ms is not None:
            self._last_seen_ms[address] = max(seen_ms, now_ms)
            self._last_check_ms = max(self._last_check_ms or now_ms, now_ms)

    def holds(self, address: Address, now_ms: int) -> bool:
        """The peer was heard from this address so recently that nobody else may take it."""
        seen_ms = self._last_seen_ms.get(address)
        return seen_ms is not None and now_ms - seen_ms < UNSTABLE_AFTER_MS

    def forget(self, address: Address) -> None:
        """Another Transport has authenticated itself from this address."""
        self._last_seen_ms.pop(address, None)
        if self.selected == address:
            self.selected = None

    def judge(self, now_ms: int) -> Consent:
        """Consent as of now. What was neither checked nor said to connect stays ``new``: clients connect lazily."""
        if self._last_check_ms is None and self._awaited_since_ms is not None:
            if now_ms - self._awaited_since_ms >= CLOSED_AFTER_MS:
                self.consent = Consent.CLOSED
        elif self._last_check_ms is not None:
            silent_ms = now_ms - self._last_check_ms
            if silent_ms >= CLOSED_AFTER_MS or self.consent is Consent.CLOSED:
                self.consent = Consent.CLOSED
            elif silent_ms >= UNSTABLE_AFTER_MS:
                self.consent = Consent.UNSTABLE
            else:
                self.consent = Consent.CONNECTED
        return self.consent

    def _make_room(self) -> Address | None:
        if len(self._last_seen_ms) < MAX_ADDRESSES:
            return None
        idle = min((a for a in self._last_seen_ms if a != self.selected), key=self._last_seen_ms.__getitem__)
        del self._last_seen_ms[idle]
        return idle
