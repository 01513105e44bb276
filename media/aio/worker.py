"""The media worker process: ``python -m media.aio.worker --control PATH --port N --address IP ...``.

It dials the control socket its supervisor listens on, takes its UDP port, says ``ready`` and
relays until that connection closes or SIGTERM comes. One worker, one event loop, one core.

The log goes to standard error, one line per event, ids and counts only: never a payload, never a line
per packet.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from media.aio.clock import start_clock
from media.aio.control_server import ControlServer
from media.aio.log import configure_log
from media.aio.relay import Relay
from media.core import control

log = logging.getLogger("media.aio.worker")  # __name__ is "__main__" here

EXIT_OK, EXIT_PORT, EXIT_CONTROL = 0, 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerArguments:
    """The command line."""

    control: Path
    port: int
    bind: str
    addresses: Sequence[str]


def parse_arguments(arguments: Sequence[str]) -> WorkerArguments:
    """Read the command line; ends the process with a usage text when it is wrong."""
    parser = argparse.ArgumentParser(prog="media.aio.worker", description="Relay media on one UDP port.")
    parser.add_argument("--control", required=True, type=Path, help="Unix socket the supervisor listens on")
    parser.add_argument("--port", type=int, default=0, help="UDP port, 0 for any")
    parser.add_argument("--bind", default="0.0.0.0", help="address to bind")  # noqa: S104 - see WorkerSettings.bind
    parser.add_argument("--address", action="append", required=True, help="address announced to clients; repeatable")
    parsed = parser.parse_args(arguments)
    return WorkerArguments(control=parsed.control, port=parsed.port, bind=parsed.bind, addresses=parsed.address)


async def run(arguments: WorkerArguments) -> int:
    """Relay until the control connection closes or SIGTERM comes; the exit code."""
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    try:
        reader, writer = await asyncio.open_unix_connection(arguments.control)
    except OSError as error:
        log.error("no control connection", extra={"reason": error.strerror})
        return EXIT_CONTROL
    server = ControlServer(reader, writer)
    relay = Relay(start_clock(), server.notify, arguments.addresses)
    try:
        port = relay.open(arguments.bind, arguments.port)
    except OSError as error:
        log.error("no UDP port", extra={"port": arguments.port, "reason": error.strerror})
        writer.close()
        return EXIT_PORT
    server.notify(control.WorkerReady(pid=os.getpid(), port=port, addresses=list(arguments.addresses)))
    log.info("relaying", extra={"port": port, "addresses": ",".join(arguments.addresses)})
    gc.collect()
    gc.freeze()  # imports and tables stay: the collector need not walk them while packets wait
    serving = asyncio.create_task(server.serve(relay), name="media-control")
    ending = asyncio.create_task(told_to_end.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    serving.cancel()
    await asyncio.gather(serving, ending, return_exceptions=True)
    await relay.close()
    log.info("ended")
    return EXIT_OK


def main() -> None:
    """Entry point."""
    configure_log()
    sys.exit(asyncio.run(run(parse_arguments(sys.argv[1:]))))


if __name__ == "__main__":
    main()
