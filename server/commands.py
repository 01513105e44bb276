"""What the commands of `consilium` do; `__main__` has their names, arguments and help.

Apart from it, because this imports the server: who asks for help, or stops a command in its first second, need not
wait for that.
"""

import asyncio
import datetime
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography import x509

from server.app import ANCHORS, database_errors, prepare_data_dir, require_schema
from server.clock import server_clock
from server.doctor import examine
from server.enrol.aio.codes import EnrolmentCodes
from server.exits import Exit, StartError
from server.gateway.sealing import rotate
from server.lifecycle import run
from server.lock.aio.parts import vault_of
from server.lock.aio.resealing import forget, reseal
from server.lock.aio.vault import KEYS_VARIABLE, Vault
from server.log import configure_log
from server.network import openings
from server.settings import Settings
from server.storage import audit, schema
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.storage.models import Hospital
from server.tls import expires_at, make_authority
from server.trust import fingerprint
from server.turn import CONFIG_FILE, coturn_command, coturn_configuration, write_configuration


def serve(settings: Settings) -> int:
    configure_log(json=settings.log_json)
    asyncio.run(run(settings))
    return Exit.OK


def audit_verify(settings: Settings) -> int:
    return asyncio.run(_audit_verify(settings))


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


def db_upgrade(settings: Settings) -> int:
    return asyncio.run(_db_upgrade(settings))


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


def ca(settings: Settings, hosts: tuple[str, ...]) -> int:
    prepare_data_dir(settings.data_dir)
    files = make_authority(settings.data_dir / "tls", hosts, datetime.datetime.now(datetime.UTC))
    cert = x509.load_pem_x509_certificate(files.ca_cert.read_bytes())
    print(f"Authority    {files.ca_cert}\n  SHA-256    {fingerprint(cert)}")
    print(f"Certificate  {files.cert}, good until {expires_at(files.cert):%Y-%m-%d}, for {', '.join(hosts)}")
    print("Machines must trust the authority: set CONSILIUM_TRUST_PORT and open http://<host>:<port>/trust on each.")
    return Exit.OK


def enrol_code(settings: Settings, hospital: str, name: str) -> int:
    return asyncio.run(_enrol_code(settings, hospital, name))


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


def lock_rotate_key(settings: Settings) -> int:
    return asyncio.run(_with_vault(settings, _rotate_key))


def lock_seal(settings: Settings) -> int:
    return asyncio.run(_with_vault(settings, _seal))


def lock_forget_key(settings: Settings, key: str) -> int:
    return asyncio.run(_forget_key(settings, key))


async def _forget_key(settings: Settings, key: str) -> int:
    database = Database(settings.database)
    try:
        await require_schema(database)
        messages = await forget(database, key, server_clock()())
    finally:
        await database.close()
    if messages is None:
        raise StartError(Exit.SETTINGS, f"No key {key!r} is in use.")
    print(f"Key {key} forgotten, and {messages} messages that waited under it. Files sealed with it cannot be opened.")
    return Exit.OK


async def _with_vault(settings: Settings, work: Callable[[Vault, Database], Awaitable[int]]) -> int:
    database, vault = Database(settings.database), vault_of(settings)
    try:
        await require_schema(database)
        await vault.open(database)
        return await work(vault, database)
    finally:
        await database.close()


async def _rotate_key(vault: Vault, database: Database) -> int:
    if vault.place.given:
        raise StartError(Exit.SETTINGS, f"The keys come from {KEYS_VARIABLE}: add the new one where that is set.")
    key = rotate(vault.place.path)
    await vault.open(database)
    print(f"Key {key} added; it seals from now on. `consilium lock seal` seals what is there with it.")
    return Exit.OK


async def _seal(vault: Vault, database: Database) -> int:
    done = await reseal(vault, database)
    print(f"{done.files} files and {done.rows} rows sealed with key {vault.newest}.")
    for key in done.unused:
        print(f"Key {key} seals nothing any more: it may be taken out of the keys.")
    for one in done.unopened:
        print(f"Left as it is, since it does not open: {one}")
    return Exit.CHECK_FAILED if done.unopened else Exit.OK


def turn_config(settings: Settings, output: Path | None, peers: list[str], listen: list[str]) -> int:
    path = _write_turn(settings, output, peers, listen)
    print(
        f"Written: {path} (it holds a secret). coturn runs with it by `consilium turn run`, or as a service of its own:"
    )
    print(f"  turnserver -c {path.absolute()}")
    return Exit.OK


def turn_run(settings: Settings, peers: list[str], listen: list[str]) -> int:
    command = coturn_command(_write_turn(settings, None, peers, listen))
    os.execv(command[0], command)  # noqa: S606 - found on PATH; coturn becomes what the service manager watches


def _write_turn(settings: Settings, output: Path | None, peers: list[str], listen: list[str]) -> Path:
    prepare_data_dir(settings.data_dir)
    path = output or settings.data_dir / CONFIG_FILE
    write_configuration(path, coturn_configuration(settings, peers=peers, listen=listen))
    return path


def doctor(settings: Settings) -> int:
    findings = asyncio.run(examine(settings))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<13} {finding.text}")
        if finding.advice:
            print(f"      {'':<13} {finding.advice}")
    print("\nFirewalls must let through:")
    for sentence in openings(settings):
        print(f"  {sentence}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.CHECK_FAILED
