"""The servers of the signalling comparison (`peers.signalling`), each alone in a process: ours, Node's, a bare one.

What each of them does and does not do is told there; who speaks to them is in `fan_client`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.peers.socketio_process import KEY_VARIABLE, seal
from load_tests.rig.demo_process import free_port
from load_tests.rig.drive import process_cpu_s
from load_tests.rig.figures import note

NODE: Final = Path(__file__).parent / "node_peer"
INSTALL_S: Final = 180.0


class PeerMissing(Exception):
    """A peer cannot run here; the text says why."""


@dataclass
class Server:
    """One of those that are measured."""

    name: str
    process: subprocess.Popen[str]
    url: str
    key: bytes = b""
    """Of the peers' tokens; empty for ours, which makes its own."""

    def tokens(self, count: int, room: int) -> list[str]:
        """One for each member of a room."""
        if self.key:
            return [seal(self.key, f"r{room}", f"m{member}") for member in range(count)]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count} {room}\n")
        self.process.stdin.flush()
        tokens: list[str] = json.loads(self.process.stdout.readline())
        return tokens

    @property
    def cpu_s(self) -> float:
        """Of its process so far."""
        return process_cpu_s(self.process.pid)

    @property
    def resident_kb(self) -> float:
        """Memory of its process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1000


def servers(stack: contextlib.ExitStack, place: Path, rooms: int, size: int, only: str = "") -> Iterator[Server]:
    """Each that can run here, started one by one as it is asked for; they end with the stack.

    Args:
        only: the name of one; empty: all three.
    """
    folder = Path(tempfile.mkdtemp(dir=place))
    if only in ("", "consilium"):
        arguments = ["-m", "load_tests.bench.page_process", "ours", str(folder / "data"), str(free_port()), str(size)]
        yield stack.enter_context(_server("consilium", [sys.executable, *arguments, str(rooms)], folder, b""))
    if only in ("", "node_socketio"):
        try:
            command = node_command()
        except PeerMissing as problem:
            note(f"signalling_peers: node_socketio left out: {problem}")
        else:
            yield stack.enter_context(_server("node_socketio", command, folder, secrets.token_bytes(32)))
    if only in ("", "python_socketio"):
        command = [sys.executable, "-m", "load_tests.peers.socketio_process"]
        yield stack.enter_context(_server("python_socketio", command, folder, secrets.token_bytes(32)))


def node_command() -> list[str]:
    """How the Node peer is started; its packages are installed the first time, from the locked list, no scripts run.

    Raises:
        PeerMissing: Node or npm is not here, or the packages cannot be had.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PeerMissing("node and npm are not installed")
    if not (NODE / "server.mjs").is_file():
        raise PeerMissing("it comes with the source tree only")
    if not (NODE / "node_modules" / "socket.io").is_dir():
        note("signalling_peers: installing the Node peer's packages")
        try:
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts", "--omit=dev"], cwd=NODE, capture_output=True, text=True,
                timeout=INSTALL_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise PeerMissing(f"npm ci: {problem}") from None
        if done.returncode:
            raise PeerMissing(f"npm ci: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return [node, str(NODE / "server.mjs")]


@contextlib.contextmanager
def _server(name: str, command: Sequence[str], folder: Path, key: bytes) -> Iterator[Server]:
    """Started, and ended with its standard input."""
    environment = os.environ | {"CONSILIUM_MEDIA_ADDRESSES": "127.0.0.1", KEY_VARIABLE: key.hex()}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError((folder / f"{name}.log").read_text()[-4000:])
            yield Server(name, process, json.loads(line)["url"], key)
        finally:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
