"""[RW1] [RW2] [RW3] [KF1] over any network: numbers stay continuous and true, and a key frame is always reachable.

A publisher's packets go through `tests.netem` (loss in bursts, a cut, reordering, duplicates, jitter, a full queue)
into the cores a viewer is fed from: `receive`, `rewriter`, `history`, `keyframes`. The viewer itself stops and
starts at any time. The relay's own objects around them have laws of their own beside the lanes.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.history import HISTORY_PACKETS, History
from media.core.keyframes import MIN_INTERVAL_MS, RETRY_MS, KeyframeRequests
from media.core.receive import STALE, ReceiveStream
from media.core.rewriter import Position, SourceNumbers, ViewerNumbers
from tests.netem import GilbertElliott, Link, Rate, cut, no_loss, random_loss

losses = st.sampled_from(["none", "random", "bursts", "cut"])
MODELS = {
    "none": lambda: no_loss,
    "random": lambda: random_loss(0.2),
    "bursts": lambda: GilbertElliott(0.05, 0.3),
    "cut": lambda: cut(400_000, 900_000, random_loss(0.05)),
}


@st.composite
def links(draw: st.DrawFn) -> Link:
    return Link(
        seed=draw(st.integers(0, 2**32)),
        rate=draw(st.sampled_from([None, Rate([(0, 2_000_000), (500_000, 300_000)])])),
        queue_us=draw(st.sampled_from([20_000, 300_000])),
        jitter_us=draw(st.sampled_from([0, 5_000])),
        loss=MODELS[draw(losses)](),
        reorder=draw(st.sampled_from([0.0, 0.1, 0.5])),
        reorder_us=draw(st.sampled_from([3_000, 40_000, 200_000])),
        duplicate=draw(st.sampled_from([0.0, 0.2])),
    )


@dataclass
class Relay:
    """One source and one viewer of it, without the shell."""

    first_seq: int
    stream: ReceiveStream = field(init=False)
    numbers: SourceNumbers = field(default_factory=SourceNumbers)
    history: History[int] = field(default_factory=History)
    viewer: ViewerNumbers = field(init=False)
    highest: int = -1
    live: bool = False
    placed: dict[int, int] = field(default_factory=dict)
    """Lane's number -> what the publisher sent, -1 for a filler."""
    seen: list[tuple[int, int, int]] = field(default_factory=list)
    """What the viewer got: (sequence number, content, start it belongs to)."""
    starts: int = 0

    def __post_init__(self) -> None:
        self.stream = ReceiveStream(1, 90_000, nack=True)
        self.viewer = ViewerNumbers(65_500)

    def take(self, content: int, padding: bool, now_us: int, *, repaired: bool) -> None:
        seq = (self.first_seq + content) & 0xFFFF
        fresh = self.stream.on_repaired(seq) if repaired else self.stream.on_packet(seq, content * 90, 100, now_us)
        if fresh == STALE:
            return
        highest = self.stream.highest
        extended = highest + ((seq - highest + 0x8000) & 0xFFFF) - 0x8000
        if padding and extended == highest and not repaired:
            self.numbers.drop(extended)
            return
        number = self.numbers.number(extended)
        if number is None:
            return
        assert number not in self.placed, "one number, two contents"
        self.placed[number] = content = -1 if padding else content
        self.history.put(number, content)
        if self.live and number >= self.viewer.now.base:
            self.seen.append(((number + self.viewer.now.shift) & 0xFFFF, content, self.starts))
            self.highest = max(self.highest, number)

    def start(self, now_us: int) -> None:
        """At the next packet."""
        if not self.live and self.stream.highest >= 0:
            number = self.numbers.number(self.stream.highest + 1)
            assert number is not None
            self.viewer.start(1, Position(number, 0), now_us // 1000, 90_000)
            self.live, self.starts = True, self.starts + 1

    def stop(self, now_us: int) -> None:
        if self.live:
            self.live = False
            self.viewer.stop(Position(self.highest, 0), now_us // 1000)


steps = st.lists(
    st.tuples(st.sampled_from(["media", "media", "media", "media", "padding", "start", "stop"]), st.integers(1, 12)),
    min_size=1,
    max_size=60,
)


def through(link: Link, first_seq: int, history: list[tuple[str, int]]) -> Relay:
    """Run it: a packet each 2 ms; what is missing is asked for every 20 ms and comes as RTX."""
    relay = Relay(first_seq)
    events: list[tuple[int, int, str, int]] = []
    kinds: list[str] = []
    now_us = 10_000
    for what, count in history:
        for _ in range(count if what in ("media", "padding") else 1):
            now_us += 2_000
            events.append((now_us, len(events), what, len(kinds)))
            if what in ("media", "padding"):
                kinds.append(what)
    queue = sorted(events)
    serial, tick_us = len(queue), 20_000
    while queue:
        now_us, _, what, content = queue.pop(0)
        if what in ("media", "padding"):
            for when_us in link.send(now_us, 900):
                queue.append((when_us, serial := serial + 1, "arrive", content))
        elif what == "start":
            relay.start(now_us)
        elif what == "stop":
            relay.stop(now_us)
        else:
            relay.take(content, kinds[content] == "padding", now_us, repaired=what == "repair")
        if now_us >= tick_us:
            tick_us = now_us + 20_000
            for seq in relay.stream.nacks_due(now_us, 50_000):
                content = (seq - first_seq) & 0xFFFF
                for when_us in link.send(now_us + 30_000, 900) if content < len(kinds) else []:
                    queue.append((when_us, serial := serial + 1, "repair", content))
        queue.sort()
    return relay


@settings(max_examples=120, deadline=None)
@given(links(), st.integers(0, 0xFFFF), steps)
def test_numbers_are_true_whatever_the_network_does(link: Link, first_seq: int, history: list[tuple[str, int]]) -> None:
    relay = through(link, first_seq, history)

    in_order = [relay.placed[number] for number in sorted(relay.placed) if relay.placed[number] >= 0]
    assert in_order == sorted(in_order), "numbers keep the publisher's order"
    used = [seq for seq, _, _ in relay.seen]
    assert len(used) == len(set(used)), "[RW2] a number is used once"
    for seq, content, start in relay.seen:
        if start == relay.starts and relay.live:  # [RW3]
            number = relay.viewer.now.lane_number(seq, relay.highest)
            assert number is not None
            assert relay.placed[number] == content
            if relay.highest - number < HISTORY_PACKETS - 300:
                assert relay.history.get(number) == content


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 0xFFFF), steps)
def test_without_loss_there_is_no_hole(seed: int, first_seq: int, history: list[tuple[str, int]]) -> None:
    """[RW1] [RW2] Padding, duplicates and stops leave none."""
    relay = through(Link(seed, duplicate=0.3), first_seq, history)

    used = [seq for seq, _, _ in relay.seen]
    assert used == [(65_500 + index) & 0xFFFF for index in range(len(used))]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32),
    losses,
    losses,
    st.integers(0, 3_000),
    st.lists(st.integers(0, 4_000), min_size=1, max_size=8),
)
def test_a_key_frame_is_always_reachable(
    seed: int, down_loss: str, up_loss: str, healed_ms: int, wanted_ms: list[int]
) -> None:
    """[KF1] Once the network lets anything through, whoever waits has one within one repetition; and no storm."""

    def until_healed(name: str) -> Link:
        bad = MODELS[name]()
        return Link(seed, loss=lambda random, now_us: now_us < healed_ms * 1000 and bad(random, now_us))

    down, up = until_healed(down_loss), until_healed(up_loss)
    requests = KeyframeRequests()
    waiting: list[int] = []
    at_publisher: list[int] = []
    at_relay: list[int] = []
    asked_ms: list[int] = []

    def ask(now_us: int) -> None:
        asked_ms.append(now_us // 1000)
        at_publisher.extend(up.send(now_us, 60))

    end_ms = max(healed_ms, *wanted_ms) + RETRY_MS + 300
    for now_ms in range(0, end_ms, 20):
        now_us = now_ms * 1000
        for when_ms in wanted_ms:
            if now_ms <= when_ms < now_ms + 20:
                waiting.append(now_ms)
                if requests.want(now_ms):
                    ask(now_us)
        if requests.due(now_ms):
            ask(now_us)
        for when_us in [when_us for when_us in at_publisher if when_us <= now_us]:
            at_publisher.remove(when_us)
            at_relay.extend(down.send(now_us, 1200))
        for when_us in [when_us for when_us in at_relay if when_us <= now_us]:
            at_relay.remove(when_us)
            requests.arrived()
            waiting.clear()
    assert not waiting
    assert not requests.wanted
    assert all(later - earlier >= MIN_INTERVAL_MS for earlier, later in pairwise(asked_ms))


def test_the_models_do_what_they_say() -> None:
    """The emulator itself: same seed, same fate; loss, duplicates and order as asked for."""
    runs = [[Link(5, loss=random_loss(0.3), duplicate=0.2, jitter_us=900).send(t, 100) for t in range(3)] for _ in "ab"]
    assert runs[0] == runs[1]
    burst = Link(1, loss=GilbertElliott(0.02, 0.2))
    lost = [not burst.send(t * 1000, 100) for t in range(5_000)]
    assert 0.05 < sum(lost) / 5_000 < 0.15
    assert sum(a and b for a, b in pairwise(lost)) > 0.6 * sum(lost)  # they come together
    full = Link(1, Rate([(0, 80_000)]), queue_us=100_000)
    assert len([t for t in range(20) if full.send(0, 100)]) == 11  # 10 ms each
