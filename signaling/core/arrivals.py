"""How many may come in at one time, and when the others are to ask again. [SE16]

To let somebody in costs a token (a row of the audit trail), a handshake, a commit and an event to everyone there. When
more come than a core can serve, all of them get slower together, until those who are in hear no beat for 5 s, leave,
and come too: a collapse from which there is no way back, since an attempt costs the same whether it succeeds or not.

So arrivals that are under way are bounded, and whoever is turned away is turned away before any work: with a place in
line, and a time at which to ask again. A place is a number. How many are before it, divided by how many a second were
let in lately, is the time. Somebody who asks early hears the same again; somebody whose turn had come and who found no
room keeps the place; a place whose owner stays away is forgotten. There are two lines, for those who come back to a
consult that they were let into before and for others, who get a quarter while both wait.

The bound itself follows what was measured: it shrinks while the event loop is late or one arrival takes long, and grows
while neither is so and somebody had to be turned away.

No clock here: ``now_s`` is monotonic and never runs backwards. Who has the requests is ``server.api.arriving``, who has
the sockets and the timer is ``signaling.aio.gateway``.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivalLimits:
    """Bounds and times of arrivals."""

    at_once: int = 40
    """Under way at one time, to begin with."""
    fewest: int = 8
    most: int = 256
    others_share: float = 0.25
    """Of the bound and of the pace, for who was not here before, while others wait to come back."""
    unasked_share: float = 0.5
    """Of the bound, for who has no place, or comes before its time, while others wait: half of it is idle at most."""
    client_s: float = 5.0
    """How long the client's next step is waited for; as long as a socket may be without a token. [SE7]"""
    late_s: float = 0.2
    """An event loop that is later than this has too much to do; a beat may be 3 s late (W19)."""
    early_s: float = 0.05
    """One that is not later than this has room."""
    slow_s: float = 1.0
    """A step of an arrival that takes us longer waits for something else than the loop: the store, or its disk."""
    shrink: float = 0.8
    shrink_every_s: float = 0.25
    rate_hz: float = 100.0
    """Let in a second, until it was measured; rather too high, since who comes too early costs little."""
    slowest_hz: float = 5.0
    fastest_hz: float = 1_000.0
    haste: float = 1.1
    """Asked to come for each who can be let in, so that there is always somebody at the door."""
    raise_by: float = 1.25
    """The rate, after a second with idle room: a pace that is too slow would prove itself right."""
    soonest_s: int = 1
    latest_s: int = 60
    """Nobody is sent away for longer, however many wait."""
    stays_away_s: float = 30.0
    """A place is forgotten when its owner is so late."""
    places: int = 65_536
    """That are kept; beyond them one is sent away without."""
    known: int = 65_536
    """Who was let in before, the latest."""


@dataclass(slots=True, eq=False)
class Arrival:
    """Somebody who is on the way in."""

    who: Hashable
    back: bool
    """Was let in before."""
    until_s: float | None
    """When it is given up unless the client goes on; None: it is our turn."""
    ours_since_s: float
    participant: Hashable = None


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Ask again after so many seconds."""

    retry_after_s: int


@dataclass(slots=True)
class _Line:
    """Numbers given out and numbers done with; what lies between is the length of the line."""

    given: int = 0
    done: int = 0

    @property
    def waiting(self) -> int:
        return self.given - self.done


@dataclass(slots=True)
class _Place:
    line: _Line
    number: int
    due_s: float


@dataclass(slots=True)
class _Slot:
    """What was seen since the rate was last judged."""

    since_s: float = 0.0
    arrived: int = 0
    most_under_way: int = 0
    pressed: bool = False
    """Somebody was turned away."""
    shrunk: bool = False
    """There was too much to do, and of what else than arrivals is not known."""


_SLOT_S = 1.0
_WEIGHT = 0.2
"""Of the last second in the learnt rate."""
_IDLE_SHARE = 0.75
"""Under way at no moment more than this share of the bound: the pace is too slow, not the server."""
_GOLDEN = 0.618_033_988_749_895
"""Multiples of it, less the whole, lie as far from each other as can be."""


@dataclass(eq=False)
class Arrivals:
    """The door of one process."""

    limits: ArrivalLimits = field(default_factory=ArrivalLimits)

    def __post_init__(self) -> None:
        self.turned_away = 0
        """Only ever grows."""
        self.rate_hz = self.limits.rate_hz
        """Let in a second when many came."""
        self._bound = float(self.limits.at_once)
        self._under_way: set[Arrival] = set()
        self._others = 0
        """Of those, who were not here before."""
        self._expected: dict[Hashable, Arrival] = {}
        """By participant."""
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._back, self._new = _Line(), _Line()
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._slot = _Slot()
        self._shrunk_s = self._swept_s = -math.inf
        self._pressed = False

    @property
    def under_way(self) -> int:
        """Arrivals that are under way."""
        return len(self._under_way)

    @property
    def bound(self) -> int:
        """How many may be."""
        return int(self._bound)

    @property
    def waiting(self) -> int:
        """Who were turned away and are expected again."""
        return len(self._places)

    # ------------------------------------------------------------ at the door

    def knock(self, who: Hashable, now_s: float) -> Arrival | TurnedAway:
        """Somebody asks to be let in.

        Args:
            who: the same whenever the same one asks for the same consult; it need not be true.
        """
        if now_s - self._swept_s >= self.limits.client_s / 100:
            self._sweep(now_s)
        back = who in self._known
        place = self._places.get(who)
        if self._has_room(back, place is not None and now_s >= place.due_s - 1):
            if place is not None:
                self._leave_line(who)
            arrival = Arrival(who, back, None, now_s)
            self._under_way.add(arrival)
            self._others += not back
            self._slot.most_under_way = max(self._slot.most_under_way, len(self._under_way))
            return arrival
        self.turned_away += 1
        self._slot.pressed = self._pressed = True
        return TurnedAway(self._wait(who, place, back, now_s))

    def _has_room(self, back: bool, its_turn: bool) -> bool:
        room = self.bound
        if not its_turn and (self._back if back else self._new).waiting:
            room = math.ceil(room * self.limits.unasked_share)
        if not back and self._back.waiting and self._others >= math.ceil(self.bound * self.limits.others_share):
            return False
        return len(self._under_way) < room

    def _wait(self, who: Hashable, place: _Place | None, back: bool, now_s: float) -> int:
        limits = self.limits
        if place is not None and now_s < place.due_s - 1:
            return max(limits.soonest_s, min(limits.latest_s, math.ceil(place.due_s - now_s)))
        line = (self._back if back else self._new) if place is None else place.line
        number = line.given if place is None else place.number
        wait_s = max(limits.soonest_s, math.ceil((number - line.done) / self._pace(line)))
        if wait_s > limits.latest_s:
            # Nobody knows so far ahead. They ask again at moments of their own: some soon, so that a server that is
            # quicker than it was thought to be has somebody at the door.
            wait_s = limits.latest_s - int(limits.latest_s * 3 / 4 * (number * _GOLDEN % 1))
        if place is not None:
            place.due_s = now_s + wait_s
        elif len(self._places) < limits.places:
            line.given += 1
            self._places[who] = _Place(line, number, now_s + wait_s)
        return wait_s

    def _pace(self, line: _Line) -> float:
        """How many of a line are asked to come each second."""
        pace_hz = self.rate_hz * self.limits.haste
        other = self._new if line is self._back else self._back
        if not other.waiting:
            return pace_hz
        share = self.limits.others_share
        return pace_hz * (share if line is self._new else 1 - share)

    def _leave_line(self, who: Hashable) -> None:
        self._places.pop(who).line.done += 1

    # ------------------------------------------------------------ on the way in

    def expect(self, arrival: Arrival, participant: Hashable, now_s: float) -> None:
        """It has a token, and is to come with it as this participant. What the same one began before is given up."""
        older = self._expected.get(participant)
        if older is not None and older is not arrival:
            self.give_up(older)
        if arrival in self._under_way:
            arrival.participant = participant
            self._expected[participant] = arrival
            self._their_turn(arrival, now_s)

    def came(self, participant: Hashable, now_s: float) -> None:
        """It showed the token, and is to go on."""
        arrival = self._expected.get(participant)
        if arrival is not None:
            arrival.until_s = now_s + self.limits.client_s

    def enter(self, participant: Hashable, now_s: float) -> Arrival | None:
        """It is being let in; None: nobody waited for it any more."""
        arrival = self._expected.get(participant)
        if arrival is not None:
            arrival.until_s, arrival.ours_since_s = None, now_s
        return arrival

    def arrived(self, arrival: Arrival, now_s: float) -> None:
        """It is in."""
        if arrival not in self._under_way:
            return
        self._their_turn(arrival, now_s)
        self.give_up(arrival)
        self._slot.arrived += 1
        self._known[arrival.who] = None
        self._known.move_to_end(arrival.who)
        if len(self._known) > self.limits.known:
            self._known.popitem(last=False)

    def taken(self, participant: Hashable, now_s: float) -> None:
        """Its token was taken for something that needs no more than that."""
        arrival = self._expected.get(participant)
        if arrival is not None:
            self.arrived(arrival, now_s)

    def give_up(self, arrival: Arrival) -> None:
        """It was refused, or did not go on; idempotent."""
        if arrival in self._under_way:
            self._under_way.remove(arrival)
            self._others -= not arrival.back
            if self._expected.get(arrival.participant) is arrival:
                del self._expected[arrival.participant]

    def _their_turn(self, arrival: Arrival, now_s: float) -> None:
        if arrival.until_s is None and now_s - arrival.ours_since_s > self.limits.slow_s:
            self._shrink(now_s)
        arrival.until_s = now_s + self.limits.client_s

    # ------------------------------------------------------------ what was measured

    def lagged(self, late_s: float, now_s: float) -> None:
        """A look at the event loop, several times a second: how late it was."""
        self._sweep(now_s)
        if late_s > self.limits.late_s:
            self._shrink(now_s)
        elif late_s < self.limits.early_s and self._pressed and len(self._under_way) >= self.bound - 1:
            self._bound = min(float(self.limits.most), self._bound + 1)
        self._pressed = self._pressed and len(self._under_way) >= self.bound - 1
        if now_s - self._slot.since_s >= _SLOT_S:
            self._judge(now_s)

    def _shrink(self, now_s: float) -> None:
        if now_s - self._shrunk_s >= self.limits.shrink_every_s:
            self._shrunk_s = now_s
            self._slot.shrunk = True
            self._bound = max(float(self.limits.fewest), self._bound * self.limits.shrink)

    def _judge(self, now_s: float) -> None:
        """Learn the rate of the last second, if it was one in which more came than could be let in."""
        slot, self._slot = self._slot, _Slot(since_s=now_s, most_under_way=len(self._under_way))
        seen_hz = slot.arrived / (now_s - slot.since_s)
        if not slot.pressed and not self._places:
            return
        if slot.most_under_way <= self._bound * _IDLE_SHARE:
            rate_hz = max(self.rate_hz, seen_hz) * self.limits.raise_by
        elif slot.shrunk:
            rate_hz = max(self.rate_hz, seen_hz)
        else:
            rate_hz = self.rate_hz + _WEIGHT * (seen_hz - self.rate_hz)
        self.rate_hz = min(self.limits.fastest_hz, max(self.limits.slowest_hz, rate_hz))

    def _sweep(self, now_s: float) -> None:
        """Forget who did not come. Places are looked at once a second, since there may be many."""
        before_s, self._swept_s = self._swept_s, now_s
        for arrival in [one for one in self._under_way if one.until_s is not None and one.until_s <= now_s]:
            self.give_up(arrival)
        if math.isinf(before_s) or int(before_s) != int(now_s):
            gone_s = now_s - self.limits.stays_away_s
            for who in [who for who, place in self._places.items() if place.due_s < gone_s]:
                self._leave_line(who)
