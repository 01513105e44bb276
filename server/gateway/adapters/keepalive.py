"""Connections that stay open for days through firewalls that forget them: a dead peer is found by the kernel."""

import asyncio
import socket
from typing import Final

IDLE_S: Final = 60
EVERY_S: Final = 20
PROBES: Final = 4


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Probe the peer when the line is silent; one that does not answer for IDLE_S + PROBES * EVERY_S is gone."""
    line = writer.get_extra_info("socket")
    if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, EVERY_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
