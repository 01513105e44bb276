"""``consilium gateway ...``: arguments in, sentences out. What each does lies beside this file."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from server.exits import Exit, StartError

if TYPE_CHECKING:
    from server.gateway.config import Folder, GatewayConfig
    from server.gateway.inside import Inside

gateway_app = App(name="gateway", help="The hospital's side of the lock: dials out, lets nothing in.")
DEFAULT_FOLDER = Path("gateway")
CODE_VARIABLE = "CONSILIUM_ENROLMENT_CODE"


@gateway_app.command
def enrol(
    *,
    hub: str,
    code: str | None = None,
    ca: Path | None = None,
    proxy: str | None = None,
    again: bool = False,
    data_dir: Path = DEFAULT_FOLDER,
) -> int:
    """Make this gateway's key pair and bind it to the hospital, once, with a code of the hub's administrator.

    The code comes from --code, CONSILIUM_ENROLMENT_CODE or the keyboard; it is good for 15 minutes and one use.

    Args:
        hub: the hub, e.g. https://hub.example
        code: the one-time code, XXXX-XXXX-XXXX.
        ca: certificate of the hub's own authority (the hub's /trust page has it); unless given, the machine's.
        proxy: http://... where the only way out is an HTTP proxy.
        again: replace an identity that is here.
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.identity import enrol as run_enrol

        folder = Folder(data_dir)
        typed = code or os.environ.get(CODE_VARIABLE, "") or _typed()
        identity = asyncio.run(run_enrol(folder, hub=hub, code=typed, authority=ca, proxy=proxy, again=again))
        print(f"Enrolled 已注册: {identity.gateway} ({identity.name}), {identity.hospital_name}, at {identity.origin}")
        print(f"Key {folder.key}, mode 0600; it never leaves this machine.")
        if identity.authority is not None:
            print(f"Only {identity.authority} is trusted for the hub's certificate from now on.")
        return Exit.OK

    return _guarded(go)


@gateway_app.command
def run(*, data_dir: Path = DEFAULT_FOLDER, log_json: bool = False) -> int:
    """Run the gateway until Ctrl-C or SIGTERM. SIGHUP takes over an edited policy.

    Args:
        data_dir: folder of this gateway, with gateway.toml and policy.toml.
        log_json: log lines as JSON.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.program import run_gateway
        from server.log import configure_log

        configure_log(json=log_json)
        return run_gateway(Folder(data_dir), _inside)

    return _guarded(go)


@gateway_app.command
def status(*, data_dir: Path = DEFAULT_FOLDER) -> int:
    """How the line is, what waits, and whose clock is off. Exit code 8 when it is not connected.

    Args:
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.identity import load_identity
        from server.gateway.listing import is_connected, status_lines

        folder = Folder(data_dir)
        for line in status_lines(folder, load_identity(folder)):
            print(line)
        return Exit.OK if is_connected(folder) else Exit.CHECK_FAILED

    return _guarded(go)


@gateway_app.command
def crossings(*, limit: int = 50, as_json: bool = False, data_dir: Path = DEFAULT_FOLDER) -> int:
    """What crossed, was refused, or was asked; newest first, with its time in the lock.

    Args:
        limit: how many.
        as_json: one JSON object a line, every time in microseconds.
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.listing import crossing_line, crossing_rows

        for row in crossing_rows(Folder(data_dir), max(1, limit)):
            print(json.dumps(row, ensure_ascii=False) if as_json else crossing_line(row))
        return Exit.OK

    return _guarded(go)


@gateway_app.command(name="check-policy")
def check_policy(file: Path | None = None, *, data_dir: Path = DEFAULT_FOLDER) -> int:
    """Read a policy and say what it lets through. Exit code 2 when it cannot be used.

    Args:
        file: policy.toml of the folder unless given.
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder, load_policy
        from server.gateway.policy_text import policy_lines

        folder = Folder(data_dir)
        folder.prepare()
        for line in policy_lines(load_policy(folder, file)):
            print(line)
        return Exit.OK

    return _guarded(go)


@gateway_app.command(name="rotate-key")
def rotate_key(*, data_dir: Path = DEFAULT_FOLDER) -> int:
    """Add a key to the journal's; it seals from the next start on, older keys open what they sealed.

    Args:
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.sealing import rotate

        print(f"Key {rotate(Folder(data_dir).keys)} added. Restart the gateway to use it.")
        return Exit.OK

    return _guarded(go)


def _inside(config: "GatewayConfig", folder: "Folder") -> "Inside":
    """The adapters' libraries are loaded only once nothing else stands in the way of a start."""
    from server.gateway.configure import build_inside

    return build_inside(config, folder)


def _typed() -> str:
    if not sys.stdin.isatty():
        raise StartError(Exit.SETTINGS, f"The enrolment code is missing: give --code or {CODE_VARIABLE}.")
    return getpass.getpass("Enrolment code 注册码: ")


def _guarded(action: Callable[[], int]) -> int:
    """What stands in the way becomes one sentence and a code, not a traceback."""
    try:
        return int(action())
    except StartError as problem:
        print(f"consilium: {problem}", file=sys.stderr)
        return int(problem.exit_code)
