"""What the system allows a generator, and drops of its datagrams: open files, sockets' buffers, where it may send."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit


def own_drops() -> int:
    """Datagrams that full receive buffers of this process's open sockets have dropped."""
    mine = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target.startswith("socket:["):
                mine.add(target[8:-1])
    total = 0
    for name in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in mine:
                    total += int(fields[-1])
    return total


def raise_descriptors(wanted: int = 0) -> None:
    """Let this process have as many open files as the system allows it.

    Raises:
        OSError: that is less than ``wanted``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if wanted > open_files():
        raise OSError(f"{wanted} open files are needed in one process, the system allows {open_files()}")


def open_files() -> int:
    """How many this process may have."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


async def allowed_target(origin: str, allowed: frozenset[str]) -> bool:
    """Whether traffic may go there: loopback, or an address that was named when this generator was started."""
    host = urlsplit(origin).hostname or ""
    if host in allowed:
        return True
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = {str(entry[4][0]) for entry in found}
    return all(ipaddress.ip_address(one).is_loopback or one in allowed for one in addresses)
