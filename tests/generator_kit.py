"""The generators' C side on a clock of the test's, with real sockets and real SRTP, and what comes out of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pylibsrtp import Policy, Session

from load_tests.plan.line import Line
from load_tests.report.ledger import Ledger
from load_tests.session import engine as engines
from load_tests.session import swift
from load_tests.session.engine import Engine, EngineLine
from load_tests.session.path import Path

KEYS = bytes(range(28)), bytes(range(100, 128))
EPOCH_NS = 1_700_000_000_000_000_000


def session(key: bytes, kind: int) -> Session:
    """One direction's SRTP context."""
    return Session(Policy(key=key, ssrc_type=kind, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM))


@dataclass
class Clock:
    """Stands where the test puts it; a module's ``time``."""

    now_s: float = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    def monotonic_ns(self) -> int:
        """Nanoseconds."""
        return round(self.now_s * 1e9)

    def time_ns(self) -> int:
        """Since 1970."""
        return EPOCH_NS + round(self.now_s * 1e9)


@dataclass
class Bench:
    """One Transport in C and a socket at its far end; nothing happens but in `turn`."""

    line: Line = field(default_factory=Line)
    consult: int = 0

    def __post_init__(self) -> None:
        found = engines.load()
        if found is None:
            pytest.skip("the generator's C side was not built")
        self.clock = Clock()
        self.ledger = Ledger()
        self.engine = Engine(*found)
        self.far, self.near = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.far, self.near):
            one.bind(("127.0.0.1", 0))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            one.setblocking(False)
        self.far.connect(self.near.getsockname())
        self.near.connect(self.far.getsockname())
        self.handed: list[tuple[bytes, int]] = []
        self.changes = 0
        self.path: Any = SimpleNamespace(line=self.line, cut=False, loss=0.0, carrier=None, seeds=(11, 22))
        number, self.handle = self.engine.open(
            self.near.fileno(), self.path, self.consult, swift.OWN_SSRC,
            lambda datagram, stamp_ns: self.handed.append((datagram, stamp_ns)), self._changed,
            lambda: None,
        )  # fmt: skip
        self.number = number
        self.to_near, self.from_near = (
            session(KEYS[0], Policy.SSRC_ANY_OUTBOUND),
            session(KEYS[1], Policy.SSRC_ANY_INBOUND),
        )
        self.receive, self.send = session(KEYS[0], Policy.SSRC_ANY_INBOUND), session(KEYS[1], Policy.SSRC_ANY_OUTBOUND)
        cast = self.engine.ffi.cast
        self.lib.gen_keys(
            self.state, self.handle, *(cast("void *", swift.srtp_handle(one)) for one in (self.receive, self.send))
        )

    @property
    def lib(self) -> Any:
        """The C functions."""
        return self.engine.lib

    @property
    def state(self) -> Any:
        """Of the C side."""
        return self.engine.state

    def _changed(self) -> None:
        self.changes += 1

    def turn(self, now_s: float) -> list[bytes]:
        """Let the C side look at everything at this moment; the datagrams that left it."""
        self.clock.now_s = now_s
        self.lib.gen_turn(self.state, now_s, self.clock.time_ns())
        self.engine.serve()
        return self.left()

    def left(self) -> list[bytes]:
        """What has come to the far end."""
        came = []
        while True:
            try:
                came.append(self.far.recv(2048))
            except BlockingIOError:
                return came

    def plain(self, datagrams: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """RTP and RTCP packets of these datagrams, decrypted."""
        rtp, rtcp = [], []
        for one in datagrams:
            if 192 <= one[1] <= 223:
                rtcp.append(bytes(self.from_near.unprotect_rtcp(one)))
            else:
                rtp.append(bytes(self.from_near.unprotect(one)))
        return rtp, rtcp

    def counted(self) -> Ledger:
        """Everything so far."""
        self.engine.settle(self.ledger)
        return self.ledger

    def close(self) -> None:
        """Everything back to the system."""
        self.engine.close()
        self.far.close()
        self.near.close()


__all__ = ["EPOCH_NS", "Bench", "Clock", "EngineLine", "Path", "session"]
