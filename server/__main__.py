"""The ``consilium`` command: arguments -> settings -> run -> exit code (`exits.py`).

Names, arguments and help only. What a command does is imported when it is called (`commands.py` and others), so that
help comes at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from cyclopts import App

from server.exits import StartError

INTERRUPTED = 130
"""What shells report of a program that Ctrl-C ended."""

app = App(name="consilium", help="Real-time teleconsultation server.")
audit_app = App(name="audit", help="The audit trail.")
db_app = App(name="db", help="The database.")
lock_app = App(name="lock", help="What the lock keeps at this hub, sealed.")
turn_app = App(name="turn", help="coturn, for participants whose firewall lets nothing else through.")
app.command(audit_app)
app.command(db_app)
app.command(lock_app)
app.command(turn_app)
app.command(
    "server.gateway.commands:gateway_app",
    name="gateway",
    help="The hospital's side of the lock: dials out, lets nothing in.",
)
app.command(
    "load_tests.run.command:app",
    name="load",
    help="Load a server with simulated sessions and report what it did; see load_tests/README.md.",
)


@app.command
def serve(*, host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run the server. Every setting is an environment variable CONSILIUM_...; these three are also options.

    Args:
        host: address to listen on.
        port: TCP port of the web server.
        data_dir: folder of database, keys and anchors.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.serve(load_settings(host=host, port=port, data_dir=data_dir)))


@app.command
def demo(*, port: int | None = None, data_dir: Path | None = None, hospital: bool = True) -> int:
    """Run a sample hub on this machine: patients, a simulated room, a simulated bedside monitor, a partner's gateway.

    Args:
        port: TCP port of the web server; another one is taken, and told, when it is in use.
        data_dir: folder in which the demo keeps everything.
        hospital: --no-hospital leaves the simulated partner hospital and its gateway away.
    """
    from server.demo.run import demo as run_demo

    return _guarded(lambda: run_demo(port=port, data_dir=data_dir, hospital=hospital))


@app.command
def bedside(
    *,
    server: str,
    consult: str,
    source: str = "simulator",
    confirm: list[str] | None = None,
    secret_file: Path | None = None,
    rate: float | None = None,
    artefact: list[str] | None = None,
    seed: int = 1,
) -> int:
    """Stream one bedside device into one consult, once two identifiers of the patient were confirmed at the bed.

    The device's secret comes from CONSILIUM_DEVICE_SECRET, --secret-file or the keyboard.

    Args:
        server: the hub, e.g. https://hub.example
        consult: id of the consult.
        source: simulator[:RHYTHM], file:PATH (played, marked simulated), lsl:[NAME] or hl7:FOLDER of ORU messages.
        confirm: an identifier read at the bed; needed twice. Without it they are asked for, or staff bind in the
            consult.
        secret_file: file that holds the device's secret.
        rate: simulator only: beats per minute.
        artefact: simulator only: KIND[:WHERE[:FROM-UNTIL]], e.g. off:V2:10-20; repeatable.
        seed: simulator only: another patient for each number.
    """
    from server.bedside.choose import choose
    from server.bedside.client import Assignment
    from server.bedside.program import bedside as run_bedside
    from server.bedside.program import bedside_for, device_secret, origin_of

    def go() -> int:
        chosen = choose(source, rate_bpm=rate, artefacts=artefact or [], seed=seed)
        bed = bedside_for(confirm or [])
        assignment = Assignment(origin=origin_of(server), consult=consult, secret=device_secret(secret_file))
        return run_bedside(chosen, assignment, bed)

    return _guarded(go)


@audit_app.command(name="verify")
def audit_verify(*, data_dir: Path | None = None) -> int:
    """Walk the audit chain and name the first row that is not as it was written.

    Exit code 0: every row is whole. 6: a row was changed, removed, moved or added, or the end is missing.
    The end of the chain is held by anchors: `audit-anchors.jsonl` in the data folder and the "audit chain anchored"
    lines of the log. Rows after the last anchor could be cut off unseen; keep copies of the anchors on another machine.

    Args:
        data_dir: folder of database and anchors.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.audit_verify(load_settings(data_dir=data_dir)))


@lock_app.command(name="rotate-key")
def lock_rotate_key(*, data_dir: Path | None = None) -> int:
    """Add a key to those that seal the lock's files and rows; it seals from now on, older keys open what they sealed.

    Args:
        data_dir: folder of database, keys and files.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.lock_rotate_key(load_settings(data_dir=data_dir)))


@lock_app.command(name="seal")
def lock_seal(*, data_dir: Path | None = None) -> int:
    """Seal with the newest key what an earlier version left open and what older keys sealed; also beside the hub.

    Says which older keys may be taken out of the file then. Exit code 8: something does not open; it was left as it is.

    Args:
        data_dir: folder of database, keys and files.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.lock_seal(load_settings(data_dir=data_dir)))


@lock_app.command(name="forget-key")
def lock_forget_key(key: str, *, data_dir: Path | None = None) -> int:
    """Give up a key that is lost for good, so that the hub starts without it; files that it sealed are lost with it.

    Args:
        key: its id, as the refusal to start names it.
        data_dir: folder of the database, if it is a file.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.lock_forget_key(load_settings(data_dir=data_dir), key))


@db_app.command(name="upgrade")
def db_upgrade(*, data_dir: Path | None = None) -> int:
    """Bring the database to the schema of this version; a SQLite file is copied first.

    Args:
        data_dir: folder of the database, if it is a file.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.db_upgrade(load_settings(data_dir=data_dir)))


@app.command
def ca(*hosts: str, data_dir: Path | None = None) -> int:
    """Make a local certificate authority (once) and a server certificate for these names.

    Args:
        hosts: names and addresses by which browsers will call the server, e.g. hub.lan 192.168.1.20
        data_dir: folder in which `serve` finds the certificate by itself.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.ca(load_settings(data_dir=data_dir), hosts))


@app.command(name="enrol-code")
def enrol_code(hospital: str, *, name: str, data_dir: Path | None = None) -> int:
    """Make a one-time code with which a hospital's gateway enrols; for administrators on the hub's own machine.

    Args:
        hospital: id of the hospital.
        name: what the gateway will be called in lists.
        data_dir: folder of the database, if it is a file.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.enrol_code(load_settings(data_dir=data_dir), hospital, name))


@turn_app.command(name="config")
def turn_config(
    *,
    output: Path | None = None,
    peer: list[str] | None = None,
    listen: list[str] | None = None,
    data_dir: Path | None = None,
) -> int:
    """Write a coturn configuration for CONSILIUM_TURN_URLS that reaches the media ports and nothing else.

    It holds the secret that makes credentials, so it is written with mode 0600 and not printed.

    Args:
        output: where to; `turnserver.conf` in the data folder unless given.
        peer: address allowed besides CONSILIUM_MEDIA_ADDRESSES, under which coturn reaches the media ports; repeatable.
        listen: address coturn listens on, all unless given; repeatable.
        data_dir: as for serve.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.turn_config(load_settings(data_dir=data_dir), output, peer or [], listen or []))


@turn_app.command(name="run")
def turn_run(*, peer: list[str] | None = None, listen: list[str] | None = None, data_dir: Path | None = None) -> int:
    """Write the configuration and run coturn with it in this terminal or service; Ctrl-C stops it.

    Args:
        peer: as for config.
        listen: as for config.
        data_dir: as for serve.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.turn_run(load_settings(data_dir=data_dir), peer or [], listen or []))


@app.command
def doctor(*, host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> int:
    """Try everything the server needs and say what to mend. Exit code 8 when something does not work.

    Args:
        host: as for serve.
        port: as for serve.
        data_dir: as for serve.
    """
    from server import commands
    from server.settings import load_settings

    return _guarded(lambda: commands.doctor(load_settings(host=host, port=port, data_dir=data_dir)))


def _guarded(action: Callable[[], int]) -> int:
    """Run a command; what stands in its way becomes one sentence and a code, not a traceback."""
    try:
        return action()
    except StartError as problem:
        print(f"consilium: {problem}", file=sys.stderr)
        return problem.exit_code


def main() -> None:
    """Entry point."""
    try:
        sys.exit(app())
    except KeyboardInterrupt:
        # While something was still being imported; what runs handles Ctrl-C itself.
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
