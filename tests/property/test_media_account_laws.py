"""Calm feedback that C takes in leaves a line as it would have been left by Python (``media.core.congestion.account``).

Two relays, as in ``test_media_intake_laws``: the same packets, and viewers who say the same of them. Some of it is
calm, some tells of queues, losses, what was told before, what was never sent; some comes from another SSRC, padded, in
other chunks, torn. Compared is all that the relay knows of each line, whoever took it in.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media.aio.fanout import ForwardPath
from media.aio.loop import MediaLoop
from media.core import rtcp
from media.core.congestion.estimator import LineEstimator
from media.core.congestion.sent import REMEMBERED
from tests.property.test_media_intake_laws import (
    PROFILE,
    Numbers,
    Senders,
    World,
    key,
    load_or_skip,
    make_sockets,
    throw,
)

sockets = pytest.fixture(scope="module")(make_sockets)

TICK_US, REFERENCE_US = 250, 64_000
CALM = ("calm",) * 12
ODD = (
    "slow",
    "early",
    "lost",
    "again",
    "foreign",
    "padded",
    "ones",
    "twos",
    "part",
    "torn",
    "short",
    "never",
    "wide",
    "report",
    "remb",
)
BETWEEN = ("",) * 8 + ("tick", "tick", "silence", "pause", "padding", "padding")
OWN_DELAY_US = 20_000


@dataclass
class Round:
    """Some packets, then what a viewer says, then what else happens."""

    packets: int
    viewer: int
    says: str
    between: str
    amount: int


@st.composite
def rounds(draw: st.DrawFn) -> list[Round]:
    return [
        Round(
            draw(st.integers(1, 6)),
            draw(st.integers(0, 1)),
            draw(st.sampled_from(CALM + ODD if draw(st.booleans()) else CALM)),
            draw(st.sampled_from(BETWEEN)),
            draw(st.integers(0, 9)),
        )
        for _ in range(draw(st.integers(5, 60)))
    ]


class Viewer:
    """Says what came of what was sent to it."""

    def __init__(self, world: World, index: int) -> None:
        policy = Policy(key=key(index), ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILE)
        self.session = Session(policy=policy)
        self.world, self.index = world, index
        self.sent: Any = world.relay._transports[f"v{index}"].leg.sent
        self.told_to = self.sent.next_number
        self.last = b""
        self.count = 0

    def say(self, what: str, amount: int) -> None:
        if what == "report":
            block = rtcp.ReportBlock(self.world.relay._consumers[f"v{self.index}"].ssrc, amount, 0, 7, 20, 0, 0)
            self.ask(rtcp.build_receiver_report(9, [block]))
        elif what == "remb":
            self.ask(rtcp.build_remb(9, 100_000 * (1 + amount), [1]))
        elif what == "again" and self.last:
            self.ask(self.last)
        elif self.told_to < self.sent.next_number or what == "never":
            self.ask(self.feedback(what, amount))

    def ask(self, packet: bytes) -> None:
        self.world.ask(self.index, packet, self.session)
        self.world.read()

    def feedback(self, what: str, amount: int) -> bytes:
        start, stop = self.told_to, self.sent.next_number
        if what == "part":
            stop -= amount % (stop - start)
        if what == "never":
            stop += 1 + amount
        self.told_to = min(stop, self.sent.next_number)
        queue_us = {"slow": 9_000 * amount, "early": -2_000 * amount, "wide": 70_000}.get(what, 300 * amount)
        lost = start + (stop - start) // 2 if what == "lost" else -1
        arrives = []
        for number in range(start, stop):
            send_us = (
                self.sent.send_us[number & REMEMBERED - 1] if number < self.sent.next_number else self.world.now_us
            )
            late_us = queue_us if what != "wide" or number > start else 0
            arrives.append(None if number == lost else (send_us + OWN_DELAY_US + late_us) // TICK_US)
        body = encode(start, arrives, "run" if what not in ("ones", "twos") else what, self.count)
        self.count = (self.count + 1) & 0xFF
        if what == "torn":
            body = body[: max(8, len(body) - 4 * (1 + amount))]
        ssrc = 77 + amount if what == "foreign" else 9
        packet = rtcp.build_transport_feedback(ssrc, 0, body)
        if what == "short" and stop - start >= 3:  # what is padding would pass for deltas
            packet = rtcp.build_transport_feedback(ssrc, 0, body[:-4])
        if what in ("padded", "short"):
            packet = bytes((packet[0] | 0x20,)) + packet[1:2] + struct.pack("!H", len(packet) // 4) + packet[4:]
            packet += b"\0\0\0\x04"
        self.last = packet
        return packet


def encode(start: int, arrives: list[int | None], chunks: str, count: int) -> bytes:
    """Body of a feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1)."""
    first = next((at for at in arrives if at is not None), 0)
    reference = first // 256
    last = reference * 256
    symbols, deltas = [], b""
    for at in arrives:
        if at is None:
            symbols.append(0)
            continue
        small = 0 <= at - last <= 0xFF
        symbols.append(1 if small else 2)
        deltas += struct.pack("!B" if small else "!h", at - last)
        last = at
    words = []
    if chunks == "run" or set(symbols) != {1}:
        words = [symbol << 13 | 1 for symbol in symbols]
        if len(set(symbols)) == 1:
            words = [symbols[0] << 13 | len(symbols)]
    else:
        per, bits, head = (14, 1, 0x8000) if chunks == "ones" else (7, 2, 0xC000)
        for at in range(0, len(symbols), per):
            word = head
            for place in range(len(symbols[at : at + per])):
                word |= 1 << (14 - bits * (place + 1))
            words.append(word)
    head_bytes = struct.pack("!HHI", start & 0xFFFF, len(arrives), (reference & 0xFF_FFFF) << 8 | count)
    body = head_bytes + b"".join(word.to_bytes(2, "big") for word in words) + deltas
    return body + bytes(-len(body) & 3)


def plain(value: Any) -> Any:
    """All that an object holds, down to numbers."""
    if isinstance(value, Enum | int | float | str | bytes | None):
        return value
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items()}
    if hasattr(value, "__iter__"):
        return [plain(one) for one in value]
    slots = {slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())}
    names = sorted(slots - {"account"}) or sorted(vars(value))
    return {name: plain(getattr(value, name)) for name in names}


def outcome(path: ForwardPath, script: list[Round], first: int, sinks: list[socket.socket]) -> Any:
    """What the relay knows of each line, what else is to be alike, and how many feedbacks came to Python."""
    hear = LineEstimator.hear
    came = 0

    def counted(estimator: LineEstimator, fci: bytes, now_us: int) -> bool:
        nonlocal came
        came += 1
        return hear(estimator, fci, now_us)

    async def play() -> Any:
        with patch("media.aio.relay.secrets", Numbers()), patch.object(LineEstimator, "hear", counted):
            world = World(path, sinks)
            senders = Senders(first)
            viewers = [Viewer(world, index) for index in (1, 4)]  # of the picture
            for number, one in enumerate(script):
                datagrams = []
                for _ in range(one.packets):
                    world.now_us += 4_000
                    datagrams = [senders.datagram("video", "", 300, number == 0)]
                    throw(sinks[0], datagrams, False, world.port)
                    world.read()
                world.now_us += 25_000
                viewers[one.viewer].say(one.says, one.amount)
                if one.between == "padding":  # of a probe: what was sent before it is not plain any more either
                    sent = viewers[one.viewer].sent
                    sent.note(sent.next_number & 0xFFFF, [200] * (1 + one.amount), world.now_us, 3)
                elif one.between == "silence":
                    world.now_us += 1_300_000
                elif one.between == "pause":
                    world.now_us += 40_000 * one.amount
                if one.between in ("tick", "silence"):
                    world.relay._tick(world.now_us)
                world.now_us += 15_000
            lines = []
            for viewer in viewers:
                estimator = world.relay._lines._lines[f"v{viewer.index}"].line.estimator
                estimator.settle()
                lines.append(plain(estimator))
            counters = {
                name: n for name, n in world.relay.counters.values.items() if n and not name.startswith("forward")
            }
            spoke = [world.relay._transports[f"v{viewer.index}"].heard for viewer in viewers]
            heard = world.heard()
            world.relay._udp.close()
            await world.relay.close()
            return lines, [counters, spoke, heard], came

    with asyncio.Runner(loop_factory=MediaLoop if path == "c" else None) as runner:
        return runner.run(play())


def check(script: list[Round], first: int, sinks: list[socket.socket]) -> int:
    """Both ways are one for this script; how many feedbacks of it came to Python where there is C."""
    load_or_skip()
    expected, beside, _ = outcome("python", script, first, sinks)
    lines, mine, came = outcome("c", script, first, sinks)
    for name, value in expected[0].items():
        assert (lines[0][name], lines[1][name]) == (value, expected[1][name]), name
    assert mine == beside
    return came


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=rounds(), first=st.sampled_from((100, 65_530)))
def test_a_line_is_the_same_whoever_takes_in_its_feedback(
    sockets: list[socket.socket], script: list[Round], first: int
) -> None:
    check(script, first, sockets)


def test_calm_feedback_does_not_come_to_python(sockets: list[socket.socket]) -> None:
    """Else the law above would hold of nothing. For longer than the empty line's delay is remembered."""
    script = [Round(6, 0, "calm", "", number // 20 % 10) for number in range(450)]
    assert check(script, 65_500, sockets) <= 10
