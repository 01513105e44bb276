"""``consilium gateway ...``: arguments in, sentences out. What each does lies beside this file."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

from server.exits import Exit, StartError

if TYPE_CHECKING:
    from server.gateway.config import Folder, GatewayConfig
    from server.gateway.inside import Inside

gateway_app = App(name="gateway", help="The hospital's side of the lock: dials out, lets nothing in.")
DEFAULT_FOLDER = Path("gateway")
Reason = Literal["wrong_patient", "duplicate", "obsolete", "corrected", "test", "mended", "other"]
"""`server.lock.core.wire.OPERATOR_REASONS`."""
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
        from server.gateway.config import Folder, journal_keys
        from server.gateway.identity import load_identity
        from server.gateway.listing import is_connected, key_line, status_lines

        folder = Folder(data_dir)
        connected = is_connected(folder)  # before it is put in words: who waits for code 0 finds it said
        for line in status_lines(folder, load_identity(folder)):
            print(line)
        if folder.journal.exists():
            print(key_line(folder, journal_keys(folder)))
        return Exit.OK if connected else Exit.CHECK_FAILED

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


@gateway_app.command
def queue(*, data_dir: Path = DEFAULT_FOLDER) -> int:
    """What waits and what was refused, with the number that `resend` and `discard` take; oldest first.

    Args:
        data_dir: folder of this gateway.
    """

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.listing import queue_lines

        for line in queue_lines(Folder(data_dir)):
            print(line)
        return Exit.OK

    return _guarded(go)


@gateway_app.command
def resend(crossing: int, *, reason: Reason, data_dir: Path = DEFAULT_FOLDER) -> int:
    """Send again what the hub refused or never got, after whatever was wrong was mended. Logged here and at the hub.

    Args:
        crossing: its number in `queue` or `crossings`.
        reason: why.
        data_dir: folder of this gateway.
    """
    return _by_hand("resend", crossing, reason, data_dir)


@gateway_app.command
def discard(crossing: int, *, reason: Reason, data_dir: Path = DEFAULT_FOLDER) -> int:
    """Give up a crossing that waits or was refused, and its content, for good. Logged here and at the hub.

    Args:
        crossing: its number in `queue` or `crossings`.
        reason: why.
        data_dir: folder of this gateway.
    """
    return _by_hand("discard", crossing, reason, data_dir)


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
        from server.gateway.config import KEYS_VARIABLE, Folder
        from server.gateway.sealing import rotate

        if os.environ.get(KEYS_VARIABLE):
            raise StartError(Exit.SETTINGS, f"The keys come from {KEYS_VARIABLE}: add the new one where that is set.")
        print(f"Key {rotate(Folder(data_dir).keys)} added. Restart the gateway to use it.")
        return Exit.OK

    return _guarded(go)


def _by_hand(action: str, crossing: int, reason: str, data_dir: Path) -> int:
    """The journal is one file with one writer at a time, so this may run beside the gateway."""

    def go() -> int:
        from server.gateway.config import Folder
        from server.gateway.operating import operate

        said = asyncio.run(operate(Folder(data_dir), action, crossing, reason, getpass.getuser()))
        if said is not None:
            raise StartError(Exit.CHECK_FAILED, said)
        print(f"Crossing {crossing}: {action}, {reason}. The hub is told.")
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
