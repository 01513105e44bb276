"""One port number for UDP and TCP: a firewall's administrator has one number to remember."""

import errno
import resource
from collections.abc import Sequence

from media.aio.loop import Wait
from media.aio.tcp import MAX_STREAMS, TcpPort
from media.aio.udp import UdpPort
from media.core.ortc_transport import Protocol

DESCRIPTORS = MAX_STREAMS + 256
"""Many systems start programs with 1024, from a time when that was much."""
TRIES = 50
"""Free TCP ports that may be taken for UDP before we give up."""


def allow_descriptors() -> None:
    """Let this process have a descriptor for each connection it may take, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_both(
    udp: UdpPort, tcp: TcpPort, bind: str, port: int, protocols: Sequence[Protocol], wait: Wait | None = None
) -> int:
    """Bind what is listened on to one number; returns it.

    Args:
        port: 0 for one that is free for all of them.
        wait: as `UdpPort.open`.

    Raises:
        OSError: it cannot be had; nothing is left open.
    """
    if "tcp" not in protocols:
        return udp.open(bind, port, wait)
    for left in reversed(range(TRIES)):
        taken = tcp.open(bind, port)
        if "udp" not in protocols:
            return taken
        try:
            return udp.open(bind, taken, wait)
        except OSError as error:
            tcp.close()
            if port or not left or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("the last try returns or raises")
