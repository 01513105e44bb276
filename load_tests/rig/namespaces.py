"""Two network namespaces with a virtual cable between them, gone when their processes are.

Janus ignores loopback interfaces, and a comparison is fair only when all relays stand
behind the same kind of link. So the generator runs in one nameless namespace, the relays
in another, joined by a veth pair: nothing can leave the machine, and nothing needs to be
tidied up, since the kernel removes both with their last process.

Root makes them directly; others may where the system lets them have user namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

GENERATOR_ADDRESS, RELAY_ADDRESS = "10.99.0.1", "10.99.0.2"
CARRIER_TIMEOUT_S, TIDY_TIMEOUT_S = 5.0, 15.0
TOOLS = ("unshare", "nsenter", "setpriv", "taskset", "ip")


def why_not() -> str | None:
    """The reason why namespaces cannot be had here, None when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or "unshare failed" if tried.returncode else None


def _unshare() -> list[str]:
    return ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def run_inside(module: str, arguments: Sequence[str]) -> int:
    """Run a module of ours in a new namespace, the generator's; its exit code."""
    process = subprocess.Popen([*_unshare(), sys.executable, "-m", module, *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:  # it had the signal too, and has relays to end and folders to remove
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TIDY_TIMEOUT_S)
        process.kill()
        raise


@dataclass(frozen=True, slots=True)
class RelaySide:
    """The namespace of the relays, seen from the generator's."""

    holder_pid: int
    core: int

    @property
    def launch(self) -> list[str]:
        """Command in front of a relay's: there, on its core, and ended with the generator."""
        return [
            *("setpriv", "--pdeathsig", "KILL"),
            *("nsenter", f"--net=/proc/{self.holder_pid}/ns/net"),
            *("taskset", "--cpu-list", str(self.core)),
        ]


@contextmanager
def relay_side(core: int) -> Iterator[RelaySide]:
    """Make the relays' namespace and the cable, from inside the generator's namespace."""
    # "cat" ends when this process does: nothing else holds the namespace while no relay runs.
    command = [*_unshare(), "cat"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    side = RelaySide(holder.pid, core)
    try:
        _wait_for_own_namespace(holder)
        there = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        for command in (
            ["ip", "link", "add", "load", "type", "veth", "peer", "name", "relay", "netns", str(holder.pid)],
            ["ip", "address", "add", f"{GENERATOR_ADDRESS}/24", "dev", "load"],
            ["ip", "link", "set", "load", "up"],
            ["ip", "link", "set", "lo", "up"],
            [*there, "ip", "address", "add", f"{RELAY_ADDRESS}/24", "dev", "relay"],
            [*there, "ip", "link", "set", "relay", "up"],
            [*there, "ip", "link", "set", "lo", "up"],
            # Janus finds its own address by asking for the way out.
            [*there, "ip", "route", "add", "default", "via", GENERATOR_ADDRESS],
        ):
            subprocess.run(command, check=True)
        _wait_for_carrier([*there, "ip", "-oneline", "link", "show", "dev", "relay"])
        yield side
    finally:
        holder.kill()
        holder.wait()


def _wait_for_own_namespace(holder: subprocess.Popen[bytes]) -> None:
    """Until ``unshare`` has become ``cat``: it answers what it is sent."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"\n")
    holder.stdin.flush()
    if not holder.stdout.readline():
        raise OSError("no network namespace for the relays")


def _wait_for_carrier(show: Sequence[str]) -> None:
    """Until the kernel says that the cable works, up to a second after both ends are up."""
    deadline = time.monotonic() + CARRIER_TIMEOUT_S
    while "state UP" not in subprocess.run(show, capture_output=True, text=True, check=True).stdout:
        if time.monotonic() > deadline:
            raise OSError("the virtual cable has no carrier")
        time.sleep(0.05)
