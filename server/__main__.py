"""The ``consilium`` command: arguments -> settings -> run -> exit code (`exits.py`)."""

import asyncio
import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cyclopts import App

from server.app import ANCHORS, database_errors, prepare_data_dir, require_schema
from server.clock import server_clock
from server.enrol.aio.codes import EnrolmentCodes
from server.exits import Exit, StartError
from server.gateway.commands import gateway_app
from server.lifecycle import run
from server.log import configure_log
from server.settings import Settings, load_settings
from server.storage import audit, schema
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.storage.models import Hospital
from server.tls import expires_at, make_authority
from server.trust import fingerprint
from server.turn import CONFIG_FILE, coturn_command, coturn_configuration, write_configuration

app = App(name="consilium", help="Real-time teleconsultation server.")
audit_app = App(name="audit", help="The audit trail.")
db_app = App(name="db", help="The database.")
turn_app = App(name="turn", help="coturn, for participants whose firewall lets nothing else through.")
app.command(audit_app)
app.command(db_app)
app.command(turn_app)
app.command(gateway_app)


@app.command
def serve(*, host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run the server. Every setting is an environment variable CONSILIUM_...; these three are also options.

    Args:
        host: address to listen on.
        port: TCP port of the web server.
        data_dir: folder of database, keys and anchors.
    """
    return _guarded(lambda: _serve(load_settings(host=host, port=port, data_dir=data_dir)))


@app.command
def demo(*, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run a sample hub on this machine: patients, a simulated room and a simulated bedside monitor.

    Args:
        port: TCP port of the web server; another one is taken, and told, when it is in use.
        data_dir: folder in which the demo keeps everything.
    """
    # Only the demo needs codecs, pictures and pydicom.
    from server.demo.run import demo as run_demo

    return _guarded(lambda: run_demo(port=port, data_dir=data_dir))


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
    return _guarded(lambda: asyncio.run(_audit_verify(load_settings(data_dir=data_dir))))


async def _audit_verify(settings: Settings) -> int:
    database = Database(settings.database)
    try:
        await require_schema(database)
        verdict = await audit.verify(database, AnchorFile(settings.data_dir / ANCHORS).read())
    finally:
        await database.close()
    if verdict.broken is not None:
        print(f"BROKEN at row {verdict.broken.seq}: {verdict.broken.problem}. {verdict.rows} rows before it are whole.")
        return Exit.AUDIT_BROKEN
    print(f"{verdict.rows} rows whole, {verdict.anchors} anchors agree. Head {verdict.rows} {verdict.head.hex()}")
    return Exit.OK


@db_app.command(name="upgrade")
def db_upgrade(*, data_dir: Path | None = None) -> int:
    """Bring the database to the schema of this version; a SQLite file is copied first.

    Args:
        data_dir: folder of the database, if it is a file.
    """
    return _guarded(lambda: asyncio.run(_db_upgrade(load_settings(data_dir=data_dir))))


async def _db_upgrade(settings: Settings) -> int:
    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    try:
        with database_errors():
            copy = await schema.upgrade(database)
    finally:
        await database.close()
    print(f"The database is at schema {schema.newest()}." + (f" The former file is {copy}." if copy else ""))
    return Exit.OK


@app.command
def ca(*hosts: str, data_dir: Path | None = None) -> int:
    """Make a local certificate authority (once) and a server certificate for these names.

    Args:
        hosts: names and addresses by which browsers will call the server, e.g. hub.lan 192.168.1.20
        data_dir: folder in which `serve` finds the certificate by itself.
    """
    return _guarded(lambda: _ca(load_settings(data_dir=data_dir), hosts))


def _ca(settings: Settings, hosts: tuple[str, ...]) -> int:
    prepare_data_dir(settings.data_dir)
    files = make_authority(settings.data_dir / "tls", hosts, datetime.datetime.now(datetime.UTC))
    cert = x509.load_pem_x509_certificate(files.ca_cert.read_bytes())
    print(f"Authority    {files.ca_cert}\n  SHA-256    {fingerprint(cert)}")
    print(f"Certificate  {files.cert}, good until {expires_at(files.cert):%Y-%m-%d}, for {', '.join(hosts)}")
    print("Machines must trust the authority: set CONSILIUM_TRUST_PORT and open http://<host>:<port>/trust on each.")
    return Exit.OK


@app.command(name="enrol-code")
def enrol_code(hospital: str, *, name: str, data_dir: Path | None = None) -> int:
    """Make a one-time code with which a hospital's gateway enrols; for administrators on the hub's own machine.

    Args:
        hospital: id of the hospital.
        name: what the gateway will be called in lists.
        data_dir: folder of the database, if it is a file.
    """
    return _guarded(lambda: asyncio.run(_enrol_code(load_settings(data_dir=data_dir), hospital, name)))


async def _enrol_code(settings: Settings, hospital: str, name: str) -> int:
    database = Database(settings.database)
    try:
        await require_schema(database)
        async with database.read() as session:
            found = await session.get(Hospital, hospital)
        if found is None:
            raise StartError(Exit.SETTINGS, f"There is no hospital {hospital!r} in this database.")
        made = await EnrolmentCodes(database, server_clock()).make(None, kind="gateway", hospital=hospital, name=name)
    finally:
        await database.close()
    print(f"{made.code}\n\nGood for one use within 15 minutes, at the hospital's gateway 15 分钟内一次有效:")
    print(f"  consilium gateway enrol --hub {settings.main_origin} --code {made.code}")
    return Exit.OK


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
    return _guarded(lambda: _turn_config(load_settings(data_dir=data_dir), output, peer or [], listen or []))


def _turn_config(settings: Settings, output: Path | None, peers: list[str], listen: list[str]) -> int:
    path = _write_turn(settings, output, peers, listen)
    print(
        f"Written: {path} (it holds a secret). coturn runs with it by `consilium turn run`, or as a service of its own:"
    )
    print(f"  turnserver -c {path.absolute()}")
    return Exit.OK


@turn_app.command(name="run")
def turn_run(*, peer: list[str] | None = None, listen: list[str] | None = None, data_dir: Path | None = None) -> int:
    """Write the configuration and run coturn with it in this terminal or service; Ctrl-C stops it.

    Args:
        peer: as for config.
        listen: as for config.
        data_dir: as for serve.
    """
    return _guarded(lambda: _turn_run(load_settings(data_dir=data_dir), peer or [], listen or []))


def _turn_run(settings: Settings, peers: list[str], listen: list[str]) -> int:
    command = coturn_command(_write_turn(settings, None, peers, listen))
    os.execv(command[0], command)  # noqa: S606 - found on PATH; coturn becomes what the service manager watches


def _write_turn(settings: Settings, output: Path | None, peers: list[str], listen: list[str]) -> Path:
    prepare_data_dir(settings.data_dir)
    path = output or settings.data_dir / CONFIG_FILE
    write_configuration(path, coturn_configuration(settings, peers=peers, listen=listen))
    return path


@app.command
def doctor(*, host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> int:
    """Try everything the server needs and say what to mend. Exit code 8 when something does not work.

    Args:
        host: as for serve.
        port: as for serve.
        data_dir: as for serve.
    """
    return _guarded(lambda: _doctor(load_settings(host=host, port=port, data_dir=data_dir)))


def _doctor(settings: Settings) -> int:
    # The checks import the whole server; `--help` need not.
    from server.doctor import examine
    from server.network import openings

    findings = asyncio.run(examine(settings))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<13} {finding.text}")
        if finding.advice:
            print(f"      {'':<13} {finding.advice}")
    print("\nFirewalls must let through:")
    for sentence in openings(settings):
        print(f"  {sentence}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.CHECK_FAILED


def _serve(settings: Settings) -> int:
    configure_log(json=settings.log_json)
    asyncio.run(run(settings))
    return Exit.OK


def _guarded(action: Callable[[], int]) -> int:
    """Run a command; what stands in its way becomes one sentence and a code, not a traceback."""
    try:
        return action()
    except StartError as problem:
        print(f"consilium: {problem}", file=sys.stderr)
        return problem.exit_code


def main() -> None:
    """Entry point."""
    sys.exit(app())


if __name__ == "__main__":
    main()
