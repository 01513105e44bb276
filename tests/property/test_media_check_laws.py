"""Connectivity checks that take a shorter way are answered, and remembered, as if each had been looked at [IN4].

Relays with the same credentials and clock get the same checks over real sockets, one answers repeated ones in C, one in
Python, and one looks at each as if it were the first: from several
addresses, nominating or not, repeated with new transactions and with old ones, torn and forged, across ICE restarts,
stolen addresses and long silences. Compared are all bytes that came back, the counters, what each Transport
believes of its addresses, and what signalling was told.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Literal
from unittest.mock import patch

import pytest
from aioice import stun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.aio.fanout import ForwardPath
from media.aio.loop import MediaLoop
from media.aio.mux import Mux
from media.aio.relay import Relay
from tests.property.test_media_intake_laws import START_US, Numbers, load_or_skip

NAMES = ("alice", "bob")
SPOILED = ("", "", "", "", "", "", "integrity", "fingerprint", "cookie", "longer", "shorter", "password")
Step = tuple[str, int, int, bool, str, int]
"""What is done, by whom, from which socket, nominating or not, what is wrong with it, and its transaction."""


class World:
    """One relay with two Transports that nobody has reached yet."""

    def __init__(self, path: ForwardPath, host: str) -> None:
        self.now_us = START_US
        self.notes: list[Any] = []
        self.relay = Relay(lambda: self.now_us, self.notes.append, [host], ["udp"], path)
        self.there = (host, self.relay.open(host, 0))
        self.relay.open_router("r")
        self.credentials: dict[str, list[tuple[str, str]]] = {}
        for name in NAMES:
            made = self.relay.create_transport("r", name, name, "recv")["ice_parameters"]
            self.credentials[name] = [(made["usernameFragment"], made["password"])]

    def do(self, step: Step, sockets: Sequence[socket.socket]) -> None:
        what, who, where, nominates, spoiled, transaction = step
        name = NAMES[who]
        if what == "check":
            # the newest generation or, of an odd transaction, the first
            ufrag, password = self.credentials[name][-(transaction & 1)]
            sockets[where].sendto(check(ufrag, password, nominates, spoiled, transaction), self.there)
            self.read()
        elif what == "restart" and name in self.relay._transports:
            made = self.relay.restart_ice(name)
            self.credentials[name].append((made["usernameFragment"], made["password"]))
        elif what == "wait":
            self.now_us += 2_600_000 * (1 + transaction)
            self.relay.judge_consent(self.now_us)

    def read(self) -> None:
        """Take in what waits in the socket."""
        loop: Any = asyncio.get_running_loop()
        intake = self.relay._lanes.intake
        if intake is None:
            self.relay._udp._readable()
            return
        intake._state.fixed_us = self.now_us
        while not intake.wait(loop.media.fileno(), 0):
            pass

    def outcome(self) -> Any:
        for transport in self.relay._transports.values():
            transport.take_checks()
        ices = {name: one.ice for name, one in self.relay._transports.items()}
        return {
            "counters": {n: c for n, c in self.relay.counters.values.items() if c and n != "forward_path_c"},
            "notes": self.notes,
            "ice": {
                name: (
                    ice.selected,
                    ice.consent,
                    ice._last_seen_ms,
                    ice._last_check_ms,
                    ice._nominated_ufrag,
                    ice.ufrags,
                )
                for name, ice in ices.items()
            },
        }


def check(ufrag: str, password: str, nominates: bool, spoiled: str, transaction: int) -> bytes:
    """A connectivity check as browsers send it."""
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, bytes([transaction] * 12))
    request.attributes["USERNAME"] = f"{ufrag}:client"
    request.attributes["PRIORITY"] = 1_845_494_271
    request.attributes["ICE-CONTROLLING"] = 1
    if nominates:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity((password if spoiled != "password" else "x" * 32).encode())
    whole = bytearray(bytes(request))
    if spoiled == "longer":
        return bytes(whole) + bytes(4)
    if spoiled == "shorter":
        return bytes(whole[:-8])
    at = {"integrity": -20, "fingerprint": -1, "cookie": 5}.get(spoiled)
    if at is not None:
        whole[at] ^= 1
    return bytes(whole)


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if ":" in name:
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                probe.bind((name, 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
    return name


@pytest.fixture
def sockets(host: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = []
        for _ in range(3):
            one = stack.enter_context(
                socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            )
            one.bind((host, 0))
            one.setblocking(False)
            made.append(one)
        yield made


def heard(sockets: Sequence[socket.socket]) -> list[list[bytes]]:
    """What came back to each; loopback delivers within the send."""
    came: list[list[bytes]] = []
    for one in sockets:
        came.append([])
        while True:
            try:
                came[-1].append(one.recv(2048))
            except BlockingIOError:
                break
    return came


def play(
    path: ForwardPath | Literal["each"], host: str, sockets: Sequence[socket.socket], steps: Sequence[Step]
) -> tuple[Any, int]:
    """All that can be seen of a script, and how many checks came to Python."""

    async def run() -> tuple[Any, int]:
        ordinary, asked = Mux._stun, []

        def count(self: Mux, *arguments: Any) -> None:
            asked.append(1)
            ordinary(self, *arguments)

        with ExitStack() as stack:
            stack.enter_context(patch("media.aio.relay.secrets", Numbers()))
            stack.enter_context(patch.object(Mux, "_stun", count))
            if path == "each":
                stack.enter_context(patch.object(Mux, "_keep_answering", lambda *_: None))
            world = World("c" if path == "c" else "python", host)
            for step in steps:
                world.do(step, sockets)
            result = world.outcome(), heard(sockets)
            world.relay._udp.close()
            await world.relay.close()
            assert not world.relay._mux._steady  # of Transports that are gone nothing is kept
        return result, len(asked)

    with asyncio.Runner(loop_factory=MediaLoop if path == "c" else None) as runner:
        return runner.run(run())


def scripts() -> st.SearchStrategy[list[Step]]:
    doing = st.sampled_from(("check", "check", "check", "check", "check", "restart", "wait"))
    step = st.tuples(
        doing, st.integers(0, 1), st.integers(0, 2), st.booleans(), st.sampled_from(SPOILED), st.integers(0, 5)
    )
    return st.lists(step, max_size=14).map(lambda steps: [again for one in steps for again in (one, (*one[:5], 2))])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=scripts())
def test_checks_are_answered_and_remembered_alike(host: str, sockets: list[socket.socket], steps: list[Step]) -> None:
    """[IN4]"""
    load_or_skip()
    expected = play("each", host, sockets, steps)[0]
    assert play("c", host, sockets, steps)[0] == expected
    assert play("python", host, sockets, steps)[0] == expected


def test_consent_is_kept_without_python(host: str, sockets: list[socket.socket]) -> None:
    """[IN4] From the third check on a peer that stays where it is is answered in C, until something changes."""
    load_or_skip()
    steady: list[Step] = [("check", 0, 0, True, "", 2 * transaction) for transaction in range(2, 22)]
    waits: list[Step] = [("wait", 0, 0, True, "", 0)] * 20
    steps = [step for pair in zip(steady, waits, strict=True) for step in pair]
    result, asked = play("c", host, sockets, steps)
    assert asked == 2
    assert result == play("each", host, sockets, steps)[0]
    assert len(result[1][0]) == 20
    assert [ice[1].value for ice in result[0]["ice"].values()] == ["connected", "new"]

    moved = [*steps, ("check", 0, 1, True, "", 2), ("check", 0, 0, True, "", 4), ("check", 0, 0, True, "", 6)]
    assert play("c", host, sockets, moved)[1] == 5
    restarted = [*steps, ("restart", 0, 0, True, "", 0), ("check", 0, 0, True, "", 3), steady[0]]
    assert play("c", host, sockets, restarted)[0] == play("each", host, sockets, restarted)[0]


def test_who_is_answered_in_c_holds_its_address(host: str, sockets: list[socket.socket]) -> None:
    """A forged source cannot take over an address whose owner was heard of by C alone for a while."""
    load_or_skip()
    mine: list[Step] = [("check", 0, 0, True, "", 2 * transaction) for transaction in range(2, 6)]
    late: list[Step] = [("wait", 0, 0, True, "", 1), mine[0], ("wait", 0, 0, True, "", 1), mine[1]]
    (seen, _), _ = play("c", host, sockets, [*mine, *late, ("check", 1, 0, True, "", 2)])
    assert seen["counters"]["stun_address_held"] == 1
    assert seen["ice"]["bob"][0] is None
