"""A real browser through the real front door: TLS with the certificate of `consilium ca`, no demo mode."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Playwright, expect

from load_tests.browsers.chromium import Visitor, visitor
from load_tests.browsers.steps import open_running_consult
from load_tests.rig.demo_process import free_port
from server.app import open_database
from server.clock import server_clock
from server.demo.seed import PASSWORD, PEOPLE, seed
from server.settings import load_settings
from server.tls import AuthorityFiles

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@dataclass
class Front:
    """A running server over TLS."""

    origin: str
    files: AuthorityFiles

    @property
    def flag(self) -> str:
        """Chromium trusts exactly this key, on this machine's own addresses; everything else stays checked."""
        leaf = x509.load_pem_x509_certificate(self.files.cert.read_bytes())
        key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"--ignore-certificate-errors-spki-list={base64.b64encode(hashlib.sha256(key).digest()).decode()}"


async def _fill(data_dir: Path) -> None:
    database = await open_database(load_settings({}, data_dir=data_dir))
    await seed(database, server_clock())
    await database.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    data_dir = tmp_path_factory.mktemp("https") / "data"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}
    command = [sys.executable, "-m", "server"]
    subprocess.run([*command, "ca", "127.0.0.1", "--data-dir", str(data_dir)], check=True, env=clean)
    with ThreadPoolExecutor(1) as pool:  # Playwright's own loop runs in this thread
        pool.submit(asyncio.run, _fill(data_dir)).result()
    files, port = AuthorityFiles(folder=data_dir / "tls"), free_port()
    tls = {"CONSILIUM_TLS_CERT_FILE": str(files.cert), "CONSILIUM_TLS_KEY_FILE": str(files.key)}
    log = data_dir.parent / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, "serve", "--port", str(port), "--data-dir", str(data_dir)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**clean, **tls, "CONSILIUM_MEDIA_PORT": "0"},
        )
    running, trust = Front(f"https://127.0.0.1:{port}", files), ssl.create_default_context(cafile=files.ca_cert)
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text()
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(running.origin + "/readyz", timeout=2, context=trust),
            ):
                break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield running
        assert "Traceback" not in log.read_text(), log.read_text()[-4000:]
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def open_visitor(playwright: Playwright, front: Front, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    with contextlib.ExitStack() as stack:

        def opener(name: str, **options: object) -> Visitor:
            return stack.enter_context(
                visitor(playwright, name, tmp_path / name, front.origin, flags=(front.flag,), **options)  # type: ignore[arg-type]
            )

        yield opener


def sign_in(person: Visitor) -> None:
    """Typed: there are no sample buttons outside a demo."""
    account = next(one for one in PEOPLE if one.role == "doctor")
    page = person.page
    page.goto(person.origin + "/login")
    page.get_by_test_id("login").fill(account.login)
    page.get_by_test_id("password").fill(PASSWORD)
    page.get_by_test_id("btn-sign-in").click()
    page.wait_for_url(person.origin + "/")


def test_a_doctor_signs_in_and_joins_over_https(open_visitor: Callable[..., Visitor]) -> None:
    """Secure context, ``__Host-`` cookie, socket with the https origin, media set up; nothing against the policy."""
    doctor = open_visitor("doctor")
    sign_in(doctor)
    assert doctor.page.evaluate("window.isSecureContext")
    (cookie,) = [one for one in doctor.context.cookies() if one["name"] == "__Host-consilium"]
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
    assert doctor.page.evaluate("document.cookie") == ""

    open_running_consult(doctor)

    expect(doctor.page.get_by_test_id("patient-banner").first).to_be_visible()
    assert doctor.foreign_requests == []
    assert [text for text in doctor.console_errors if "Content Security Policy" in text] == []


def test_signing_out_in_another_tab_ends_the_consult_and_an_unpaired_wall_shows_its_code(
    open_visitor: Callable[..., Visitor],
) -> None:
    """[SE12] What was open a moment ago shows no patient any more."""
    doctor, wall = open_visitor("doctor"), open_visitor("wall", camera=False)
    sign_in(doctor)
    station = doctor.context.new_page()
    station.goto(doctor.origin + "/station")
    wall.page.goto(wall.origin + "/wall?screen=1")
    code = wall.page.get_by_test_id("pairing-code").inner_text().strip()
    pair = station.locator("[data-testid^=btn-pair-]").first
    pair.click()
    station.get_by_test_id("pairing-code-input").fill(code)
    station.get_by_test_id("role-record").click()
    station.get_by_test_id("btn-claim").click()
    expect(wall.page.locator("[data-testid=wall-root][data-role=record]")).to_be_visible()
    open_running_consult(doctor)
    expect(wall.page.get_by_test_id("patient-banner").first).to_be_visible()
    screens = doctor.page.evaluate("fetch('/api/stations').then(r => r.json())")["rooms"]
    path = next(
        f"/api/stations/{one['id']}/screens/{screen['number']}"
        for room in screens
        for one in room["stations"]
        for screen in one["screens"]
        if screen["paired"]
    )

    assert doctor.page.evaluate("path => fetch(path, {method: 'DELETE'}).then(r => r.status)", path) == 204
    expect(wall.page.get_by_test_id("pairing-code")).to_be_visible()
    expect(wall.page.get_by_test_id("patient-banner")).to_have_count(0)

    assert station.evaluate("fetch('/api/session', {method: 'DELETE'}).then(r => r.status)") == 204
    expect(doctor.page.locator("[data-testid=end-screen][data-ending=removed]")).to_be_visible()
    expect(doctor.page.get_by_test_id("patient-banner")).to_have_count(0)
