"""One port number for UDP and TCP: a firewall's administrator has one number to remember."""

import errno
from collections.abc import Sequence

from media.aio.tcp import TcpPort
from media.aio.udp import UdpPort
from media.core.ortc_transport import Protocol

TRIES = 50
"""Free TCP ports that may be taken for UDP before we give up."""


def open_both(udp: UdpPort, tcp: TcpPort, bind: str, port: int, protocols: Sequence[Protocol]) -> int:
    """Bind what is listened on to one number; returns it.

    Args:
        port: 0 for one that is free for all of them.

    Raises:
        OSError: it cannot be had; nothing is left open.
    """
    if "tcp" not in protocols:
        return udp.open(bind, port)
    for left in reversed(range(TRIES)):
        taken = tcp.open(bind, port)
        if "udp" not in protocols:
            return taken
        try:
            return udp.open(bind, taken)
        except OSError as error:
            tcp.close()
            if port or not left or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("the last try returns or raises")
