"""SIGKILL of a gateway while a hospital's system sends over MLLP: what had its AA is in the journal, and once.

The gateway is a forked process with the real journal; the sender does what real ones do: one message at a time, again
under the same control id until it is answered AA.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from pathlib import Path

from server.gateway.adapters.mllp_server import MllpListen, MllpServer
from server.gateway.config import Folder, journal_keys, load_policy
from server.gateway.hl7v2.framing import Deframer, Framed, frame
from server.gateway.journal import Journal, JournalLimits
from server.gateway.journal import Stored as Row
from server.gateway.outlet import JournalOutlet
from tests.hl7v2_kit import MRN, PROFILE, message

MESSAGES, KILLS = 60, 5
DEADLINE_S = 60.0
POLICY = f"""
version = 1
[[out]]
kind = "ADT^A08"
identifier_systems = ["{MRN}", "http://example.org/national-id"]
[fields.Patient]
allow = ["meta", "identifier", "name", "gender", "birthDate", "active"]
"""


def now_us() -> int:
    return time.time_ns() // 1_000


async def gateway(path: Path, port: int) -> None:
    folder = Folder(path)
    policy = load_policy(folder)
    journal = Journal(path, journal_keys(folder), JournalLimits(), now_us)
    await journal.start()
    listen = MllpListen(name="his", host="127.0.0.1", port=port)
    await MllpServer(listen, PROFILE).run(JournalOutlet("his", journal, lambda: policy, now_us))


def started(path: Path, port: int) -> int:
    """A gateway in a process of its own; its pid."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.closerange(0, 256)
            asyncio.run(gateway(path, port))
        os._exit(1)
    return pid


class Sender:
    """A hospital's system; blocking, as many are."""

    def __init__(self, port: int) -> None:
        self._port, self._line = port, socket.socket()
        self._deframer = Deframer(10_000)

    def send(self, number: int) -> None:
        """Until it is answered AA."""
        data = frame(message("ADT^A08", control=f"M{number}"))
        until = time.monotonic() + DEADLINE_S
        while True:
            assert time.monotonic() < until, "no AA"
            with contextlib.suppress(OSError):
                self._line.sendall(data)
                if f"MSA|AA|M{number}\r" in self._answer():
                    return
            self._connect()

    def _answer(self) -> str:
        while data := self._line.recv(4096):
            for found in self._deframer.feed(data):
                assert isinstance(found, Framed)
                return found.body.decode()
        return ""

    def _connect(self) -> None:
        self._line.close()
        self._line, self._deframer = socket.socket(), Deframer(10_000)
        self._line.settimeout(DEADLINE_S)
        with contextlib.suppress(OSError):
            self._line.connect(("127.0.0.1", self._port))
            return
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def test_sigkill_loses_no_answered_message_and_repeats_none(tmp_path: Path) -> None:
    """Killed at any moment: between a message's bytes, before and after its commit, before its AA."""
    (tmp_path / "policy.toml").write_text(POLICY)
    dice, port = random.Random(7), free_port()
    pid, sender = started(tmp_path, port), Sender(port)
    kills = set(dice.sample(range(1, MESSAGES), KILLS))
    try:
        for number in range(1, MESSAGES + 1):
            if number in kills:
                killer = os.fork()
                if killer == 0:
                    time.sleep(dice.random() * 0.01)
                    os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                with contextlib.suppress(OSError):
                    sender._line.sendall(frame(message("ADT^A08", control=f"M{number}"))[: dice.randrange(600)])
                os.waitpid(killer, 0)
                os.waitpid(pid, 0)
                pid = started(tmp_path, port)
            sender.send(number)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    keys = [row.crossing.key.split("|")[3] for row in asyncio.run(kept(tmp_path))]
    assert keys == [f"M{number}" for number in range(1, MESSAGES + 1)]


async def kept(path: Path) -> list[Row]:
    journal = Journal(path, journal_keys(Folder(path)), JournalLimits(), now_us)
    await journal.start()
    found: list[Row] = []
    while rows := await journal.read(len(found) + 1, max_bytes=10**7, max_count=100):
        assert all(isinstance(row, Row) for row in rows)
        found += [row for row in rows if isinstance(row, Row)]
    await journal.close()
    return found
