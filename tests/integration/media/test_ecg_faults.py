"""[W42] Faults of the path and of the source, with a real worker between: what is drawn is what was sent, or a gap.

A device plays real ECG to a real relay over its own ICE, DTLS and SCTP; a viewer in Python receives, places
(`Assembler`) and asks for what is missing over ``ctl``, as the browser does. Every datagram of both goes through a
seeded `Link`. All faults run at the same time, each in a Router of its own and three times as fast as life; then
the paths are sound again, and the viewer asks until everything is there or declared gone.

One judge for all of them: each cell drawn holds the sample that the source had for that place, no line leads across
anything that is missing, and what is missing is what the relay itself never had. Long because device, path, viewer
and judge are one apparatus that all faults share.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from load_tests.rig.ecg_records import record_500
from media.aio.client import WorkerClient
from media.core.waveform import Assembler, Flag, FrameWriter, Placement, split_message, with_flags
from tests.integration.media.conftest import RunningWorker
from tests.integration.media.peer import Peer, until
from tests.netem import Link, Loss, constant, cut, no_loss, random_loss

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]  # all faults take place in the first

RECORD = record_500()
BLOCK = RECORD.stream().block_samples
BLOCK_US = BLOCK * 1_000_000_000 // RECORD.sample_rate_mhz
FRAMES = 120
"""12 s of signal under the fault."""
SPEED = 3
START_US = 1_700_000_000_000_000
ASK_EVERY_S = 0.1
UNRELIABLE = {"streamId": 0, "ordered": False, "maxRetransmits": 0}
RELIABLE = {"streamId": 1, "ordered": True}
SETTLED_S = 100.0


class FaultyPeer(Peer):
    """A `Peer` whose datagrams pass a link in each direction, once `impair` was called."""

    out: Link | None = None
    back: Link | None = None

    def impair(self, out: Link | None, back: Link | None) -> None:
        self.out, self.back = out, back

    def send_raw(self, datagram: bytes) -> None:
        self._through(self.out, datagram, super().send_raw)

    def _datagram(self, datagram: bytes) -> None:
        self._through(self.back, datagram, super()._datagram)

    def _through(self, link: Link | None, datagram: bytes, deliver: Callable[[bytes], None]) -> None:
        if link is None:
            deliver(datagram)
            return
        loop = asyncio.get_running_loop()
        now_us = int(loop.time() * 1e6)
        for at_us in link.send(now_us, len(datagram)):
            loop.call_later((at_us - now_us) / 1e6, self._late, deliver, datagram)

    def _late(self, deliver: Callable[[bytes], None], datagram: bytes) -> None:
        with contextlib.suppress(OSError):  # the peer was closed while this was on its way
            deliver(datagram)


@dataclass
class Truth:
    """What the source had: by frame, where it was taken and the samples of every lead."""

    samples: dict[tuple[int, int], NDArray[np.int16]] = field(default_factory=dict)
    """(t0_us, index of the first sample) -> (12, BLOCK)."""
    seqs: set[int] = field(default_factory=set)


class Device:
    """A 12-lead device at 500 Hz; `fault` may change how its messages leave."""

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.writer = FrameWriter(RECORD.stream(stream_id))
        self.truth = Truth()
        self.now_us = START_US
        self.kept: dict[int, bytes] = {}
        """Frames by number, to answer the relay."""
        self._at = 0

    def power_cycle(self, off_us: int) -> None:
        """Everything counts anew."""
        self.writer = FrameWriter(RECORD.stream(self.stream_id))
        self.now_us += off_us

    def message(self, **options: Any) -> bytes:
        take = np.arange(self._at, self._at + BLOCK) % RECORD.samples.shape[1]
        samples = RECORD.samples[:, take]
        self._at += BLOCK
        message = self.writer.write(samples, t0_us=self.now_us, context_version=1, **options)
        frame = split_message(message)[0]
        self.truth.samples[frame.t0_us, frame.first_sample] = samples
        self.truth.seqs.add(frame.seq)
        self.kept[frame.seq] = with_flags(frame.encoded, add=Flag.RESEND)
        self.now_us += BLOCK_US
        return message


class Screen(Assembler):
    """An assembler that also keeps which frame each placement was, to be judged from outside."""

    def __init__(self) -> None:
        super().__init__(12, RECORD.sample_rate_mhz)
        self.placed: list[tuple[int, int, int, int]] = []
        """(position, t0_us, first sample, seq) of every frame placed."""
        self.late = 0

    def place(self, frame: Any) -> Placement | None:
        placement = super().place(frame)
        if placement is not None:
            self.placed.append((placement.position, frame.t0_us, frame.first_sample, frame.seq))
            self.late += placement.late
        return placement


class Viewer:
    """Two transports, a screen, and the asking."""

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.screen = Screen()
        self.gone: set[int] = set()
        self.asked = 0
        self._read = 0
        self._ask: Any = None
        self.hears: Peer | None = None

    def attach(self, hears: Peer, ask: Any) -> None:
        """Transports of a worker, the first or another one."""
        self.hears, self._ask, self._read = hears, ask, 0

    def take(self) -> None:
        """Everything that has come in."""
        assert self.hears is not None
        messages = self.hears.got.messages
        while self._read < len(messages):
            message = messages[self._read]
            self._read += 1
            assert isinstance(message, bytes)
            if message[:2] == b"EC":
                self.screen.accept(message)
                continue
            answer = msgpack.unpackb(message)
            if answer["t"] == "gone":
                self.gone.update(range(answer["first"], answer["last"] + 1))

    @property
    def missing(self) -> list[int]:
        ranges = self.screen.tracker.missing
        return [seq for first, last in ranges for seq in range(first, last + 1) if seq not in self.gone]

    def ask_for(self) -> None:
        """One request for each run of missing frames, as often as this is called."""
        missing = self.missing
        starts = [seq for seq in missing if seq - 1 not in missing]
        for first in starts[:20]:
            last = next(seq for seq in itertools.count(first) if seq + 1 not in missing)
            self.asked += 1
            self.ask_range(first, last)

    def ask_range(self, first: int, last: int) -> None:
        self.ask({"t": "nack", "stream": self.stream_id, "first": first, "last": last})

    def have(self) -> None:
        """The path is new: what came after the newest we hold?"""
        self.ask({"t": "have", "stream": self.stream_id, "seq": self.screen.tracker.newest_seq})

    def ask(self, request: dict[str, Any]) -> None:
        self._ask.send(msgpack.packb(request))


Step = Callable[[Device, int], list[bytes]]
"""``(device, number of the frame) -> messages to send now``."""


def plainly(device: Device, _number: int) -> list[bytes]:
    return [device.message()]


def doubled_and_swapped(device: Device, number: int) -> list[bytes]:
    """Each message twice, neighbours changed over: what a gateway does that retries over two paths."""
    if number % 2:
        return []
    first, second = device.message(), device.message()
    return [second, first, second, first]


def clock_jumps(device: Device, number: int) -> list[bytes]:
    """Five seconds ahead, later five back; the writer says so with a new session."""
    if number == 40:
        device.now_us += 5_000_000
    if number == 80:
        device.now_us -= 5_000_000
    return [device.message()]


def restarts(device: Device, number: int) -> list[bytes]:
    """Switched off for three seconds; counts from zero again, index and frame."""
    if number == 60:
        device.power_cycle(3_000_000)
    return [device.message()]


def lead_falls_off(device: Device, number: int) -> list[bytes]:
    """V2 has no contact for two seconds."""
    return [device.message(lead_off_mask=1 << 7 if 40 <= number < 60 else 0)]


def source_gap(device: Device, number: int) -> list[bytes]:
    """The device itself lost 0.7 s: never to be filled."""
    if number == 50:
        device.writer.skip(350)
        device.now_us += 700_000
    return [device.message()]


@dataclass(frozen=True)
class Fault:
    """What happens to one stream.

    Attributes:
        up: of the datagrams between device and relay, each way; down: between relay and viewer.
    """

    up: Callable[[int], Link] | None = None
    down: Callable[[int], Link] | None = None
    step: Step = plainly
    speed: float = SPEED
    frames: int = FRAMES
    answers: bool = False
    """The device sends again what the relay asks it for."""


def lossy(share: float, **more: Any) -> Callable[[int], Link]:
    return lambda seed: Link(seed=seed, delay_us=5_000, loss=random_loss(share) if share else no_loss, **more)


def burst(seed: int) -> Link:
    """Two seconds in which nothing gets through, one second after the fault begins."""
    begin_us = int(asyncio.get_running_loop().time() * 1e6) + 1_000_000
    loss: Loss = cut(begin_us, begin_us + 2_000_000)
    return Link(seed=seed, delay_us=5_000, loss=loss)


FAULTS = {
    "loss 1 %": Fault(lossy(0.01), lossy(0.01)),
    "loss 5 %": Fault(lossy(0.05), lossy(0.05)),
    "loss 20 %": Fault(lossy(0.20), lossy(0.20)),
    "burst 2 s to the viewer": Fault(None, burst),
    "burst 2 s from the device": Fault(burst, None),
    "burst 2 s from a device that answers": Fault(burst, None, answers=True),
    "loss 20 % of a device that answers": Fault(lossy(0.20), lossy(0.05), answers=True),
    "reorder": Fault(lossy(0, reorder=0.3, reorder_us=120_000), lossy(0, reorder=0.3, reorder_us=120_000)),
    "duplicate": Fault(lossy(0, duplicate=0.3), lossy(0, duplicate=0.3), doubled_and_swapped),
    "jitter 0-2 s": Fault(None, lossy(0.02, jitter_us=400_000, reorder=0.2, reorder_us=700_000)),
    "64 kbit/s": Fault(None, lambda seed: Link(seed=seed, rate=constant(64_000)), speed=1.5, frames=60),
    "clock jump 5 s": Fault(lossy(0.03), lossy(0.03), clock_jumps),
    "gateway restart": Fault(None, lossy(0.03), restarts),
    "lead off": Fault(None, lossy(0.03), lead_falls_off),
    "gap at the source": Fault(None, lossy(0.03), source_gap),
}


@dataclass
class Outcome:
    truth: Truth
    viewer: Viewer
    at_relay: set[int]
    """Frames that the relay has, asked over a sound path."""
    lost_datagrams: int


class Stand:
    """One Router with a device, a viewer and their channels."""

    def __init__(self, name: str, client: WorkerClient, *, answers: bool = False) -> None:
        self.name, self.client, self.answers = name, client, answers
        self.stream_id = zlib.crc32(name.encode()) or 1
        self.device, self.viewer = Device(self.stream_id), Viewer(self.stream_id)
        self.peers: list[FaultyPeer] = []
        self._up: Any = None
        self._heard = self.asked = 0

    async def open(self) -> None:
        """Transports and channels, over sound paths."""
        router = self.name
        await self.client.open_router(router)
        source = FaultyPeer(self.client, router, "send", owner=f"{router} device")
        asks = FaultyPeer(self.client, router, "send", owner=f"{router} viewer")
        hears = FaultyPeer(self.client, router, "recv", owner=f"{router} viewer")
        self.peers = [source, asks, hears]
        if self.answers:
            self.peers.append(FaultyPeer(self.client, router, "recv", owner=f"{router} device"))
        for peer in self.peers:
            await peer.join()
        waveform = {"stream_id": self.stream_id, "simulated": True}
        await self.client.produce_data(source.id, f"{router} ecg", "ecg", "", UNRELIABLE, waveform)
        await self.client.produce_data(asks.id, f"{router} ask", "ctl", "", RELIABLE)
        wave = await self.client.consume_data(hears.id, f"{router} wave", f"{router} ecg")
        answers = await self.client.consume_data(hears.id, f"{router} answers", "ctl")
        self._up = await source.channel(UNRELIABLE, "ecg")
        ask = await asks.channel(RELIABLE, "ctl")
        down = [
            await hears.channel(wave["sctp_stream_parameters"], "ecg"),
            await hears.channel(answers["sctp_stream_parameters"], "ctl"),
        ]
        await until(lambda: all(one.is_open for one in (self._up, ask, *down)), "the channels")
        if self.answers:
            line = await self.client.consume_data(self.peers[-1].id, f"{router} line", "ctl")
            told = await self.peers[-1].channel(line["sctp_stream_parameters"], "ctl")
            await until(lambda: told.is_open, "the device's line")
            await self.client.resume_data_consumer(f"{router} line")
        await self.client.resume_data_consumer(f"{router} wave")
        await self.client.resume_data_consumer(f"{router} answers")
        self.viewer.attach(hears, ask)

    def send(self, message: bytes) -> None:
        self._up.send(message)
        self.answer()

    def answer(self) -> None:
        """As the device: what the relay has asked for since, again. [WF18]"""
        if not self.answers:
            return
        heard = self.peers[-1].got.messages
        for message in heard[self._heard :]:
            asked = msgpack.unpackb(message)
            if asked["t"] == "nack":
                self.asked += 1
                for seq in range(asked["first"], asked["last"] + 1):
                    self._up.send(self.device.kept[seq])
        self._heard = len(heard)

    async def close(self) -> None:
        for peer in self.peers:
            await peer.close()

    async def settle(self) -> None:
        """The stream goes on, over a sound path, until the viewer has it live and misses nothing that may come."""
        loop = asyncio.get_running_loop()
        began, goal = loop.time(), self.device.writer.seq
        while loop.time() < began + SETTLED_S:
            self.send(self.device.message())
            self.viewer.take()
            newest = self.viewer.screen.tracker.newest_seq
            if newest >= goal and not self.viewer.missing:
                return
            self.viewer.ask_for()
            for peer in self.peers:
                peer.send_raw(bytes(peer.check_message(nominate=False)))
            await asyncio.sleep(ASK_EVERY_S)
        raise AssertionError(
            f"{self.name}: {newest} of {goal}, missing {self.viewer.missing[:9]}, "
            f"errors {[peer.errors for peer in self.peers]}"
        )

    async def kept_at_relay(self) -> set[int]:
        """Numbers of the frames that the relay holds, asked as a viewer that has nothing."""
        assert self.viewer.hears is not None
        messages = self.viewer.hears.got.messages
        begin = len(messages)
        # The relay calls none of the last two gone, so they are not asked about.
        wanted = {*range(self.viewer.screen.tracker.newest_seq - 1)}
        loop = asyncio.get_running_loop()
        deadline, ask_at_s = loop.time() + SETTLED_S, 0.0
        seen: set[int] = set()
        gone: set[int] = set()
        while missing := wanted - seen - gone:
            assert loop.time() < deadline, f"{self.name}: neither sent nor gone: {sorted(missing)[:9]}"
            if loop.time() >= ask_at_s:
                self.viewer.ask_range(min(missing), max(missing))
                ask_at_s = loop.time() + 1.0
            await asyncio.sleep(0.01)
            for message in messages[begin:]:
                assert isinstance(message, bytes)
                if message[:2] == b"EC":
                    seen.add(split_message(message)[0].seq)
                elif (answer := msgpack.unpackb(message))["t"] == "gone":
                    gone.update(range(answer["first"], answer["last"] + 1))
        return seen & wanted

    async def caught_up(self) -> None:
        """Over a sound path: the newest frame has arrived and nothing is missing that may come."""
        loop = asyncio.get_running_loop()
        began = sent_s = loop.time()
        while loop.time() < began + SETTLED_S:
            self.viewer.take()
            if self.viewer.screen.tracker.newest_seq == self.device.writer.seq - 1 and not self.viewer.missing:
                return
            self.viewer.ask_for()
            await asyncio.sleep(0.02)
            if loop.time() > sent_s + 1:  # an unreliable channel may lose even here
                sent_s = loop.time()
                self.send(self.device.message())
        raise AssertionError(f"{self.name}: {self.viewer.screen.tracker.newest_seq} of {self.device.writer.seq - 1}")

    async def play(self, frames: int) -> None:
        """Some frames, faster than life."""
        for _ in range(frames):
            self.send(self.device.message())
            await asyncio.sleep(0.02)


async def play(stand: Stand, fault: Fault) -> Outcome:
    """The whole story of one fault."""
    await stand.open()
    seed = zlib.crc32(stand.name.encode())
    source, *viewing = stand.peers
    links: list[Link] = []
    ways = [(source, fault.up), *((peer, fault.up if peer.owner == source.owner else fault.down) for peer in viewing)]
    for number, (peer, make) in enumerate(ways):
        if make is not None:
            pair = make(seed + 2 * number), make(seed + 2 * number + 1)
            links += pair
            peer.impair(*pair)
    asking = asyncio.create_task(_keep_asking(stand.viewer))
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        for number in range(fault.frames):
            for message in fault.step(stand.device, number):
                stand.send(message)
            await asyncio.sleep(max(0.0, began + (number + 1) * BLOCK_US / 1e6 / fault.speed - loop.time()))
        for peer in stand.peers:
            peer.impair(None, None)
        await stand.settle()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    at_relay = await stand.kept_at_relay()
    return Outcome(stand.device.truth, stand.viewer, at_relay, sum(link.dropped for link in links))


async def _keep_asking(viewer: Viewer) -> None:
    while True:
        viewer.take()
        viewer.ask_for()
        await asyncio.sleep(ASK_EVERY_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(shared_worker: RunningWorker) -> AsyncIterator[dict[str, Outcome]]:
    stands = {name: Stand(name, shared_worker.client, answers=fault.answers) for name, fault in FAULTS.items()}
    try:
        told = await asyncio.gather(*(play(stands[name], fault) for name, fault in FAULTS.items()))
        yield dict(zip(FAULTS, told, strict=True))
    finally:
        for stand in stands.values():
            await stand.close()


def judge(truth: Truth, screen: Screen) -> dict[int, int]:
    """Compare every cell of every lead with the source; positions placed, with their frame's number.

    [W1] [W3] A cell holds the very sample that the source took at that place and time. [W2] [W9] The rest is blank,
    and no line leads to a cell whose left neighbour is not the sample before it.
    """
    cells: dict[int, tuple[tuple[int, int], int, int]] = {}
    for position, t0_us, first_sample, seq in screen.placed:
        assert (t0_us, first_sample) in truth.samples, "only frames of this source"
        for offset in range(BLOCK):
            assert position + offset not in cells, "[W5] no place is used twice"
            cells[position + offset] = (t0_us, first_sample), offset, seq
    oldest = screen.end - screen.capacity
    for lead in range(12):
        drawn = screen.drawn(lead)
        held = set(drawn.position.tolist())
        for position, value, joined in zip(drawn.position.tolist(), drawn.value, drawn.joined, strict=True):
            key, offset, seq = cells[position]
            assert value == truth.samples[key][lead, offset]
            if joined:
                before = cells[position - 1]
                assert position - 1 in held
                assert (seq, offset) in {(before[2], before[1] + 1), (before[2] + 1, 0)}
        assert held <= {position for position in cells if position >= oldest}
    return {position: seq for position, (_, _, seq) in cells.items()}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_drawn_is_what_was_sent_or_a_gap(outcomes: dict[str, Outcome], name: str) -> None:
    """[W1] [W2] [W3] [W5] [W42] And everything that the relay has was recovered."""
    outcome = outcomes[name]
    judge(outcome.truth, outcome.viewer.screen)
    placed = {seq for *_, seq in outcome.viewer.screen.placed}
    assert outcome.at_relay <= placed
    newest = outcome.viewer.screen.tracker.newest_seq
    assert {seq for seq in outcome.truth.seqs - placed if seq <= newest} <= outcome.viewer.gone, "declared gone"


async def test_faults_took_place(outcomes: dict[str, Outcome]) -> None:
    """A fault that did nothing proves nothing."""
    screens = {name: outcome.viewer.screen for name, outcome in outcomes.items()}
    for name in ("loss 5 %", "loss 20 %", "burst 2 s to the viewer", "burst 2 s from the device", "64 kbit/s"):
        assert outcomes[name].lost_datagrams > 0, name
    assert outcomes["burst 2 s to the viewer"].viewer.asked > 0
    assert outcomes["burst 2 s from the device"].viewer.gone
    # Most of each message's second copy, and of the frame it carries.
    assert screens["duplicate"].tracker.duplicates > FRAMES
    assert screens["reorder"].late > 0
    assert screens["jitter 0-2 s"].late > 0
    assert screens["clock jump 5 s"].tracker.restarts == 2
    assert screens["gateway restart"].tracker.restarts == 1
    assert screens["gap at the source"].tracker.source_gap_samples == 350


async def test_a_burst_towards_the_viewer_is_repaired_whole(outcomes: dict[str, Outcome]) -> None:
    """[W4] Two seconds lost on the last leg are still in the relay's ring: all of them are drawn in their place."""
    outcome = outcomes["burst 2 s to the viewer"]
    assert not outcome.viewer.gone
    assert {seq for *_, seq in outcome.viewer.screen.placed} >= {*range(FRAMES)}


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.answers])
async def test_what_is_lost_on_the_way_from_the_device_is_repaired_whole(
    outcomes: dict[str, Outcome], name: str
) -> None:
    """[WF18] [W4] The relay asks the source, so that nothing is missing at any viewer, nor ever called gone."""
    outcome = outcomes[name]
    assert outcome.lost_datagrams > 0
    assert outcome.at_relay >= {*range(FRAMES - 2)}, "the newest two are not asked about"
    assert not outcome.viewer.gone
    assert {seq for *_, seq in outcome.viewer.screen.placed} >= {*range(FRAMES)}


async def test_a_lead_without_contact_is_blank_exactly_as_long(outcomes: dict[str, Outcome]) -> None:
    """[W6] V2 has no sample in those two seconds and the other leads have all of theirs."""
    screen = outcomes["lead off"].viewer.screen
    on, off = screen.drawn(0).position, screen.drawn(7).position
    missing = np.setdiff1d(on, off)
    assert missing.tolist() == list(range(40 * BLOCK, 60 * BLOCK))


async def test_a_worker_that_is_killed_leaves_a_gap_and_nothing_else(shared_worker: RunningWorker) -> None:
    """[W42] The same stream goes on over another worker; what fell between is a gap of exactly that width."""
    stand = Stand("restart", shared_worker.client)
    await stand.open()
    await stand.play(15)
    await stand.caught_up()
    pid = shared_worker.supervisor.pid
    assert pid is not None
    shared_worker.supervisor.keep()
    os.kill(pid, signal.SIGKILL)
    lost = [split_message(stand.device.message())[0].seq for _ in range(5)]
    await until(lambda: shared_worker.supervisor.pid not in (None, pid), "another worker")
    stand.client = await shared_worker.supervisor.wait_up(60)
    old = list(stand.peers)
    await stand.open()
    stand.viewer.have()
    await stand.play(15)
    await stand.caught_up()
    for peer in (*old, *stand.peers):
        await peer.close()

    cells = judge(stand.device.truth, stand.viewer.screen)
    # The first message after it carries the frame before: one of the five is saved.
    assert stand.device.truth.seqs - set(cells.values()) == {*lost[:-1]}
    assert max(cells) - min(cells) + 1 == len(cells) + 4 * BLOCK, "[W3] nothing moved"
    assert stand.viewer.screen.tracker.restarts == 0
