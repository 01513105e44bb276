"""Laws of the lock's pure cores: exactly once and in order whatever is cut, repeated, reordered or killed."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.gateway.core.crossing import (
    MAX_ABOUT,
    MAX_KEY_CHARS,
    MAX_KIND_CHARS,
    MAX_PATIENT_IDENTIFIERS,
    Crossing,
    LockRefused,
    check_crossing,
)
from server.lock.core.answers import Answers, answer_frames
from server.lock.core.clock import ClockOffset
from server.lock.core.link import Arrived, Receiver, Sender, parts_of
from server.lock.core.proof import next_mark
from server.lock.core.wire import (
    FRAME_BYTES,
    GENESIS,
    MAX_ITEMS,
    PART_BYTES,
    Ack,
    Answer,
    AnswerPart,
    Cross,
    Gap,
    Part,
    WireError,
    decode,
    encode,
)

WINDOW_COUNT, WINDOW_BYTES = 3, 2 * PART_BYTES


def body_of(number: int, size: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (size // 32 + 1)


@dataclass
class GatewayDisk:
    """What a gateway's journal holds: rows for good, and how far it knows them settled."""

    bodies: list[bytes] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    settled: int = 0

    def marks(self) -> list[bytes]:
        marks = [GENESIS]
        for number, body in enumerate(self.bodies, 1):
            marks.append(next_mark(marks[-1], number, "lis", f"k{number}", hashlib.sha256(body).digest()))
        return marks

    def frames(self, number: int) -> list[Cross | Part | Gap]:
        body, mark = self.bodies[number - 1], self.marks()[number]
        if number in self.lost:
            return [Gap(first=number, last=number, code="corrupt", mark=mark)]
        head = Cross(
            sequence=number, source="lis", kind="ORU^R01", key=f"k{number}", patient=(), about=(),
            media_type="application/fhir+json", made_us=0, received_us=0, journaled_us=0, sent_us=0, size=len(body),
            digest=hashlib.sha256(body).digest(), mark=mark, body=body[:PART_BYTES],
        )  # fmt: skip
        return [head, *parts_of(number, body)]


@dataclass
class HubDisk:
    """What the hub committed: the fence, the mark, and what was applied."""

    connection: int = 0
    received: int = 0
    mark: bytes = GENESIS
    applied: list[bytes] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    def commit(self, connection: int, arrived: Arrived | Gap) -> bool:
        """The one transaction; False when the fence says no."""
        first = arrived.first if isinstance(arrived, Gap) else arrived.frame.sequence
        if connection != self.connection or self.received != first - 1:
            return False
        self.received = arrived.last if isinstance(arrived, Gap) else first
        self.mark = arrived.mark if isinstance(arrived, Gap) else arrived.frame.mark
        if isinstance(arrived, Arrived):
            self.applied.append(arrived.body)
        self.verdicts.append("lost" if isinstance(arrived, Gap) else "applied")
        return True


class Wires:
    """One connection: both pure ends, and what is on its way."""

    def __init__(self, gateway: GatewayDisk, hub: HubDisk) -> None:
        hub.connection += 1
        self.number = hub.connection
        self.sender = Sender(
            up_to=hub.received, settled=gateway.settled, window_count=WINDOW_COUNT, window_bytes=WINDOW_BYTES
        )
        self.receiver = Receiver(up_to=hub.received, mark=hub.mark)
        self.out: deque[bytes] = deque()
        self.back: deque[bytes] = deque()
        self.arrived: deque[Arrived | Gap] = deque()
        if gateway.settled < hub.received:
            items = tuple((verdict, "", 0, 0) for verdict in hub.verdicts[gateway.settled :])
            self.back.append(encode(Ack(first=gateway.settled + 1, items=items)))

    def send(self, gateway: GatewayDisk) -> None:
        number = self.sender.next
        if number > len(gateway.bodies):
            return
        size = 0 if number in gateway.lost else len(gateway.bodies[number - 1])
        if self.sender.may_send(size):
            self.sender.sent(number, size)
            self.out.extend(encode(frame) for frame in gateway.frames(number))

    def receive(self) -> None:
        if self.out:
            frame = decode(self.out.popleft())
            assert isinstance(frame, (Cross, Part, Gap))
            arrived = self.receiver.take(frame, 0)
            if arrived is not None:
                self.arrived.append(arrived)

    def commit(self, hub: HubDisk, *, tell: bool) -> None:
        if not self.arrived:
            return
        arrived = self.arrived.popleft()
        if hub.commit(self.number, arrived) and tell:
            first = arrived.first if isinstance(arrived, Gap) else arrived.frame.sequence
            self.back.append(encode(Ack(first=first, items=((hub.verdicts[-1], "", 0, 0),))))

    def learn(self, gateway: GatewayDisk) -> None:
        if self.back:
            ack = decode(self.back.popleft())
            assert isinstance(ack, Ack)
            gateway.settled = max(gateway.settled, self.sender.take(ack.first, ack.items)[-1].sequence)


OPERATIONS = st.lists(
    st.sampled_from(
        [
            "put",
            "put big",
            "lose",
            "send",
            "send",
            "receive",
            "receive",
            "commit",
            "commit",
            "commit and die",
            "learn",
            "learn",
            "cut",
            "old commits",
        ]
    ),
    max_size=80,
)


@given(OPERATIONS)
@settings(max_examples=150, deadline=None)
@example(["put", "send", "receive", "commit and die", "put", "send", "receive", "commit", "learn"])
@example(["put", "put", "send", "receive", "cut", "old commits", "send", "receive", "commit", "old commits"])
def test_every_crossing_is_applied_once_and_in_order(operations: list[str]) -> None:
    """[LK10] [LK12] [LK13] Any cut, repeat or reorder of connections, death of either end at any point."""
    gateway, hub = GatewayDisk(), HubDisk()
    wires, former = Wires(gateway, hub), []
    for operation in operations:
        match operation:
            case "put":
                gateway.bodies.append(body_of(len(gateway.bodies), 40))
            case "put big":
                gateway.bodies.append(body_of(len(gateway.bodies), 2 * PART_BYTES + 17))
            case "lose":
                gateway.lost |= {len(gateway.bodies)} if len(gateway.bodies) >= wires.sender.next else set()
            case "send":
                wires.send(gateway)
            case "receive":
                wires.receive()
            case "commit":
                wires.commit(hub, tell=True)
            case "commit and die":
                # SIGKILL of the hub between the commit and the acknowledgement
                wires.commit(hub, tell=False)
                wires = Wires(gateway, hub)
            case "learn":
                wires.learn(gateway)
            case "cut":
                # The cut, or SIGKILL of the gateway: only the disks remain, and what the hub had taken in but not
                # committed may still try to.
                former.append(wires)
                wires = Wires(gateway, hub)
            case "old commits":
                for old in former:
                    old.receive()
                    old.commit(hub, tell=True)
    wires = Wires(gateway, hub)
    while wires.sender.next <= len(gateway.bodies) or wires.out or wires.arrived or wires.back:
        wires.send(gateway)
        wires.receive()
        wires.commit(hub, tell=True)
        wires.learn(gateway)
    kept = [body for number, body in enumerate(gateway.bodies, 1) if hub.verdicts[number - 1] == "applied"]
    assert hub.applied == kept
    assert hub.received == gateway.settled == len(gateway.bodies)
    assert {number for number, verdict in enumerate(hub.verdicts, 1) if verdict == "lost"} <= gateway.lost


@given(st.integers(0, 5), st.lists(st.integers(1, 400), max_size=30))
@settings(deadline=None)
def test_the_window_holds(up_to: int, sizes: list[int]) -> None:
    """[LK11] Never more under way than the window says, except one crossing however large."""
    sender = Sender(up_to=up_to, settled=up_to, window_count=4, window_bytes=500)
    under_way: list[int] = []
    for size in sizes:
        while not sender.may_send(size):
            under_way.pop(0)
            sender.take(sender.settled + 1, [("applied", "", 0, 0)])
        sender.sent(sender.next, size)
        under_way.append(size)
        assert len(under_way) <= 4
        assert sum(under_way) <= 500 or len(under_way) == 1


@given(st.binary(max_size=300))
def test_no_bytes_decode_to_anything_but_a_frame_or_a_refusal(data: bytes) -> None:
    """[LK4]"""
    try:
        frame = decode(data)
    except WireError:
        return
    assert decode(encode(frame)) == frame


@given(st.data())
def test_a_frame_changed_on_the_way_never_becomes_another_body(data: st.DataObject) -> None:
    """[LK4] [LK10] Any one byte: refused, or what was sent in all that is applied."""
    gateway = GatewayDisk(bodies=[body_of(1, 100)])
    wire = bytearray(encode(gateway.frames(1)[0]))
    place = data.draw(st.integers(0, len(wire) - 1))
    wire[place] ^= data.draw(st.integers(1, 255))
    try:
        frame = decode(bytes(wire))
        taken = Receiver(up_to=0, mark=GENESIS).take(frame, 0) if isinstance(frame, Cross) else None
    except WireError:
        return
    assert taken is None or (isinstance(taken, Arrived) and taken.body == gateway.bodies[0])


def test_a_hole_a_repeat_or_a_foreign_part_ends_the_connection() -> None:
    """[LK10] [LK12]"""
    gateway = GatewayDisk(bodies=[body_of(1, 10), body_of(2, 10), body_of(3, 2 * PART_BYTES)])
    one, two, (head, part, last) = gateway.frames(1)[0], gateway.frames(2)[0], gateway.frames(3)
    with pytest.raises(WireError, match=r"Cross\.sequence"):
        Receiver(up_to=0, mark=GENESIS).take(two, 0)
    receiver = Receiver(up_to=0, mark=GENESIS)
    receiver.take(one, 0)
    with pytest.raises(WireError, match=r"Cross\.sequence"):
        receiver.take(one, 0)
    receiver.take(two, 0)
    assert receiver.take(head, 0) is None
    with pytest.raises(WireError, match=r"Part\.offset"):
        receiver.take(last, 0)
    with pytest.raises(WireError, match="within"):
        receiver.take(head, 0)
    receiver.take(part, 0)
    done = receiver.take(last, 0)
    assert isinstance(done, Arrived)
    assert done.body == gateway.bodies[2]
    assert max(len(encode(frame)) for frame in gateway.frames(3)) <= FRAME_BYTES
    twin = GatewayDisk(bodies=[body_of(7, 10), body_of(2, 10)])
    forked = Receiver(up_to=1, mark=gateway.marks()[1])
    with pytest.raises(WireError, match=r"Cross\.mark"):
        forked.take(twin.frames(2)[0], 0)
    sender = Sender(up_to=0, settled=0, window_count=4, window_bytes=4)
    with pytest.raises(WireError):
        sender.take(1, [("applied", "", 0, 0)])
    sender.sent(1, 1)
    with pytest.raises(WireError):
        sender.take(2, [("applied", "", 0, 0)])


def test_a_gap_is_no_wider_than_what_is_acknowledged_at_once() -> None:
    """[LK14] Each number of a gap is acknowledged: a frame of sixty bytes may not ask for 2**60 of them."""
    gap = Gap(first=1, last=2**60, code="corrupt", mark=bytes(32))
    with pytest.raises(WireError, match=r"Gap\.last"):
        Receiver(up_to=0, mark=GENESIS).take(gap, 0)
    assert Receiver(up_to=0, mark=GENESIS).take(replace(gap, last=MAX_ITEMS), 0)


def test_the_largest_crossing_there_is_fits_a_frame() -> None:
    """[LK3] What `check_crossing` takes, the wire carries: else one message would end the line for ever."""
    rare = "\U0002070e"
    crossing = Crossing(
        kind="K" * MAX_KIND_CHARS, key=rare * MAX_KEY_CHARS,
        patient=((rare * MAX_KEY_CHARS,) * 2,) * MAX_PATIENT_IDENTIFIERS,
        about=((rare * MAX_KEY_CHARS,) * 2,) * MAX_ABOUT, media_type="m" * MAX_KIND_CHARS, body=bytes(PART_BYTES),
        made_us=2**63 - 1,
    )  # fmt: skip
    check_crossing(crossing)
    most = 2**63 - 1
    frame = Cross(
        sequence=most, source=rare * 64, kind=crossing.kind, key=crossing.key, patient=crossing.patient,
        about=crossing.about, media_type=crossing.media_type, made_us=most, received_us=most, journaled_us=most,
        sent_us=most, size=len(crossing.body), digest=bytes(32), mark=bytes(32), body=crossing.body,
    )  # fmt: skip
    assert decode(encode(frame)) == frame
    for media_type in ("text/plain\n", "text/\x00plain"):
        with pytest.raises(LockRefused):
            check_crossing(replace(crossing, media_type=media_type))


@given(st.lists(st.integers(0, 3 * PART_BYTES), min_size=1, max_size=3), st.randoms())
@settings(max_examples=30, deadline=None)
def test_answers_come_together_from_any_interleaving(sizes: list[int], random: object) -> None:
    """[LK21]"""
    answers, lanes = Answers(), []
    for id_, size in enumerate(sizes):
        answers.asked(id_, 4 * PART_BYTES)
        lanes.append(deque(answer_frames(id_, body_of(id_, size)[:size], count=1, next_page="")))
    done = {}
    while any(lanes):
        lane = random.choice([lane for lane in lanes if lane])  # type: ignore[attr-defined]
        frame = decode(encode(lane.popleft()))
        assert isinstance(frame, (Answer, AnswerPart))
        whole = answers.take(frame)
        if whole is not None:
            done[whole.id] = whole.body
    assert done == {id_: body_of(id_, size)[:size] for id_, size in enumerate(sizes)}
    assert len(answers) == 0


def test_an_answer_larger_than_asked_for_is_refused() -> None:
    """[LK21]"""
    answers = Answers()
    answers.asked(1, 100)
    with pytest.raises(WireError, match=r"Answer\.size"):
        answers.take(answer_frames(1, b"x" * 101, count=1, next_page="")[0])  # type: ignore[arg-type]
    answers.asked(2, 100)
    answers.forget(2)
    assert answers.take(answer_frames(2, b"x", count=1, next_page="")[0]) is None


@given(st.integers(-(10**12), 10**12), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1))
def test_the_clock_offset_is_within_its_error(offset: int, ways: list[tuple[int, int]]) -> None:
    """[LK15]"""
    clock, now = ClockOffset(), 10**13
    for there, back in ways:
        clock.take(sent_us=now, other_us=now + there + offset, returned_us=now + there + back)
        now += 10**7
    best = clock.best
    assert best is not None
    assert abs(best.offset_us - offset) <= best.error_us
