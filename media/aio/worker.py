"""The media worker process: ``python -m media.aio.worker --control PATH --port N --address IP ...``.

It dials the control socket its supervisor listens on, takes its port (UDP and TCP), says ``ready`` and
relays until that connection closes or SIGTERM comes. One worker, one event loop, one core.

With ``--standby`` it waits before that for a ``start`` call that names the port: a supervisor keeps such a
worker at hand, since importing everything is most of the time a replacement takes.

The log goes to standard error, one line per event, ids and counts only: never a payload, never a line
per packet.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from media.aio.clock import start_clock
from media.aio.control_server import ControlServer
from media.aio.fanout import VARIABLE, ForwardPath, ForwardUnavailable, asked_path
from media.aio.garbage import GarbageKeeper
from media.aio.load import LoadMeter
from media.aio.log import configure_log
from media.aio.loop import MediaLoop
from media.aio.ports import allow_descriptors
from media.aio.relay import Relay
from media.aio.scheduling import go_first, standing
from media.core import control
from media.core.ortc_transport import PROTOCOLS, Protocol

log = logging.getLogger("media.aio.worker")  # __name__ is "__main__" here

EXIT_OK, EXIT_BROKEN, EXIT_PORT, EXIT_CONTROL, EXIT_FORWARD = 0, 1, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerArguments:
    """The command line."""

    control: Path
    port: int
    bind: str
    addresses: Sequence[str]
    protocols: Sequence[Protocol]
    standby: bool
    log_level: int
    pipe: Path | None
    clock_anchor_ns: int | None
    forward: ForwardPath | None
    first: bool


def parse_arguments(arguments: Sequence[str]) -> WorkerArguments:
    """Read the command line; ends the process with a usage text when it is wrong."""
    parser = argparse.ArgumentParser(prog="media.aio.worker", description="Relay media on one port number.")
    parser.add_argument("--control", required=True, type=Path, help="Unix socket the supervisor listens on")
    parser.add_argument("--port", type=int, default=0, help="UDP and TCP port, 0 for any")
    parser.add_argument("--bind", default="0.0.0.0", help="address to bind")  # noqa: S104 - see WorkerSettings.bind
    parser.add_argument("--address", action="append", required=True, help="address announced to clients; repeatable")
    parser.add_argument("--pipe", type=Path, help="Unix socket on which other workers of this machine reach this one")
    parser.add_argument("--clock-anchor", type=int, help="wall time less monotonic time, ns: the other workers' clock")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="listen on this only; repeatable")
    parser.add_argument("--forward", choices=get_args(ForwardPath), help=f"how packets are sent on; else {VARIABLE}")
    parser.add_argument("--first", action="store_true", help="ask the kernel for short turns, which come sooner")
    parser.add_argument("--standby", action="store_true", help="wait for a start call before taking the port")
    parser.add_argument("--log-level", type=int, default=logging.INFO, help="least level logged, as Python's logging")
    parsed = parser.parse_args(arguments)
    return WorkerArguments(
        control=parsed.control,
        port=parsed.port,
        bind=parsed.bind,
        addresses=parsed.address,
        protocols=parsed.protocol or PROTOCOLS,
        standby=parsed.standby,
        log_level=parsed.log_level,
        pipe=parsed.pipe,
        clock_anchor_ns=parsed.clock_anchor,
        forward=parsed.forward,
        first=parsed.first,
    )


async def run(arguments: WorkerArguments) -> int:
    """Relay until the control connection closes or SIGTERM comes; the exit code."""
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    try:
        reader, writer = await asyncio.open_unix_connection(arguments.control)
    except OSError as error:
        log.error("no control connection", extra={"reason": error.strerror})
        return EXIT_CONTROL
    working = asyncio.create_task(_work(arguments, reader, writer), name="media-worker")
    ending = asyncio.create_task(told_to_end.wait())
    await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    working.cancel()
    codes = await asyncio.gather(working, ending, return_exceptions=True)
    writer.close()
    if isinstance(codes[0], Exception):
        log.error("worker broke", exc_info=codes[0])
        return EXIT_BROKEN
    return codes[0] if isinstance(codes[0], int) else EXIT_OK


async def _work(arguments: WorkerArguments, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    server = ControlServer(reader, writer)
    # keys and all: a standby then has only to take its port
    try:
        clock = start_clock(arguments.clock_anchor_ns)
        relay = Relay(clock, server.notify, arguments.addresses, arguments.protocols, arguments.forward or asked_path())
    except ForwardUnavailable as problem:
        log.error("cannot forward as asked", extra={"reason": str(problem)})
        return EXIT_FORWARD
    keeper = GarbageKeeper(clock, relay.counters, relay.is_idle)
    keeper.start()  # imports and tables stay: the collector need not walk them while packets wait
    try:
        return await _relay(arguments, server, reader, relay)
    finally:
        keeper.stop()


async def _relay(arguments: WorkerArguments, server: ControlServer, reader: asyncio.StreamReader, relay: Relay) -> int:
    port = await _told_port(reader) if arguments.standby else arguments.port
    if port is None:
        return EXIT_OK
    try:
        port = relay.open(arguments.bind, port)
    except OSError as error:
        log.error("no media port", extra={"port": port, "reason": error.strerror})
        return EXIT_PORT
    meter = LoadMeter(relay.stats, server.notify)
    try:
        if arguments.pipe is not None:
            relay.pipes.open(arguments.pipe)
        addresses, turn_us = list(arguments.addresses), standing().turn_us
        server.notify(control.WorkerReady(pid=os.getpid(), port=port, addresses=addresses, turn_us=turn_us))
        log.info("relaying", extra={"port": port, "addresses": ",".join(arguments.addresses)})
        meter.start()
        await server.serve(relay)
    finally:
        meter.stop()
        await relay.close()
        log.info("ended")
    return EXIT_OK


async def _told_port(reader: asyncio.StreamReader) -> int | None:
    """Port of the ``start`` call; None when the supervisor went away first."""
    frames = control.FrameReader()
    while data := await reader.read(65_536):
        for frame in frames.feed(data):
            request = control.parse_request(frame.get("call"))
            if isinstance(request, control.Start):
                return request.port
    return None


def main() -> None:
    """Entry point."""
    arguments = parse_arguments(sys.argv[1:])
    configure_log(arguments.log_level)
    allow_descriptors()
    if arguments.first:
        go_first()
    with asyncio.Runner(loop_factory=MediaLoop) as runner:
        sys.exit(runner.run(run(arguments)))


if __name__ == "__main__":
    main()
