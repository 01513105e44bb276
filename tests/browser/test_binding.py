"""Binding at the bedside as the partner hospital's nurse does it: scanner, wrong wristband, a device that disagrees."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from load_tests.browsers.chromium import Visitor
from load_tests.browsers.steps import open_running_consult, sign_in, with_monitored_patient
from load_tests.rig.demo_process import Demo
from server.bedside.client import Assignment, Signalling, buy_token
from server.identity.core.secret import hash_secret
from signaling.core import messages as m

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(300)]

MRN, CARD = "T-0417-23", "TEST-19640314-0001"
PUMP, SECRET = "test-second-monitor", "a device secret of this test alone"


class SecondMonitor:
    """A real participant with role device, on a loop of its own thread: the browser's driver has this one's."""

    def __init__(self, hub: Demo, consult: str) -> None:
        self._enrol(hub, consult)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._signalling = self._call(self._join(Assignment(origin=hub.url, consult=consult, secret=SECRET)))

    def report(self, patient: str) -> None:
        """Say which patient it is set to."""
        self._call(self._signalling.ask(m.ReportPatient(reported=patient), m.Done))

    def close(self) -> None:
        """Leave for good."""
        with contextlib.suppress(Exception):
            self._call(self._signalling.ask(m.Leave(), m.Done))
        self._call(self._signalling.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _join(self, assignment: Assignment) -> Signalling:
        signalling = Signalling()
        await signalling.open(assignment.origin, await buy_token(assignment))
        return signalling

    @staticmethod
    def _enrol(hub: Demo, consult: str) -> None:
        """As an administrator would: an account in the partner hospital, and a seat in the consult."""
        with contextlib.closing(sqlite3.connect(hub.data_dir / "consilium.db", timeout=20)) as database, database:
            database.execute(
                "INSERT INTO device_account (id, hospital_id, name, role, secret_hash, simulated, active)"
                " VALUES (?, 'demo-partner', 'Second monitor', 'device', ?, 1, 1)",
                (PUMP, hash_secret(SECRET)),
            )
            database.execute("INSERT INTO consult_member VALUES (?, 'device', ?, 'device')", (consult, PUMP))


@contextlib.contextmanager
def second_monitor(hub: Demo, consult: str) -> Iterator[SecondMonitor]:
    monitor = SecondMonitor(hub, consult)
    try:
        yield monitor
    finally:
        monitor.close()


def scan(page: Page, *codes: str) -> None:
    """A wedge scanner: each code as key strokes, ended with Enter, once the form waits for them."""
    expect(page.get_by_test_id("identifier-1")).to_be_focused()
    for code in codes:
        page.keyboard.type(code)
        page.keyboard.press("Enter")


def row(page: Page, text: str) -> Locator:
    return page.get_by_test_id("binding-bar").locator("li", has_text=text)


def test_a_nurse_binds_at_the_bedside(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """[BI1] [BI2] [BI3] [BI4] [BI6] (W20, W22) One life of a binding, as both sides see it."""
    doctor = open_visitor("doctor", camera=False, locale="zh-CN")
    doctor.context.set_default_timeout(60_000)
    sign_in(doctor, "chen")
    consult = open_running_consult(doctor)
    with_monitored_patient(doctor)
    nurse = open_visitor("nurse", camera=False)
    nurse.context.set_default_timeout(60_000)
    sign_in(nurse, "lin")
    open_running_consult(nurse)
    page, bar = nurse.page, nurse.page.get_by_test_id("binding-bar")
    expect(bar.get_by_test_id("binding-bound")).to_contain_text(MRN, timeout=60_000)
    expect(bar.get_by_test_id("binding-bound")).to_contain_text(re.compile(r"until \d"))
    expect(page.get_by_test_id("ecg").first).to_have_attribute("data-state", "LIVE", timeout=60_000)

    # The doctor is not at that bedside: may end a binding, is offered none.
    doctor.page.get_by_test_id("binding-manage").click()
    expect(doctor.page.get_by_test_id("binding-dialog")).to_be_visible()
    expect(doctor.page.get_by_test_id("bind-form")).to_have_count(0)
    doctor.page.keyboard.press("Escape")

    # She stops her own trace and begins to measure on it: that is not lost by what comes now.
    trace = page.get_by_test_id("ecg").first
    page.get_by_test_id("ecg-freeze").click()
    expect(trace).to_have_attribute("data-still", "true")
    page.get_by_test_id("ecg-tool-caliper").click()

    # The nurse ends it: the wave is gone on both sides, and both read why.
    page.get_by_test_id("binding-manage").click()
    page.get_by_test_id("unbind").click()
    page.get_by_test_id("unbind-sure").click()
    expect(page.get_by_test_id("binding-until")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(bar.get_by_test_id("binding-ended")).to_contain_text("林小禾")
    expect(doctor.page.get_by_test_id("binding-ended")).to_contain_text("林小禾")
    expect(trace).to_have_attribute("data-sync", "unbound")
    expect(doctor.page.get_by_test_id("ecg").first).to_have_attribute("data-sync", "unbound")
    expect(trace).to_have_attribute("data-state", "LOST")
    expect(trace).to_have_attribute("data-still", "true")

    # Another patient's wristband, then the right one; Enter goes on from field to field, what was wrong is cleared.
    page.get_by_test_id("binding-open").click()
    scan(page, MRN, "TEST-19000101-0000")
    expect(page.get_by_test_id("bind-form").get_by_role("alert")).to_contain_text("wristband")
    expect(page.get_by_test_id("identifier-1")).to_have_value("")
    scan(page, CARD.lower(), f" {MRN} ")
    expect(page.get_by_test_id("binding-dialog")).to_have_count(0)
    expect(bar.get_by_test_id("binding-bound")).to_contain_text("by 林小禾")
    expect(doctor.page.get_by_test_id("binding-bound")).to_contain_text("林小禾 绑定")
    expect(trace).to_have_attribute("data-state", "LIVE", timeout=60_000)
    expect(trace).to_have_attribute("data-still", "true")
    expect(page.get_by_test_id("ecg-tool-caliper")).to_have_attribute("aria-pressed", "true")
    page.get_by_test_id("ecg-live").click()
    expect(trace).to_have_attribute("data-still", "false")

    # A second device says that it is somebody else's: red on both sides with both ids, until it is corrected and bound.
    with second_monitor(hub, consult) as monitor:
        row(page, "Second monitor").get_by_test_id("binding-open").click()
        scan(page, MRN, CARD)
        expect(page.get_by_test_id("binding-dialog")).to_have_count(0)
        monitor.report("MRN-000999")
        for viewer in (nurse, doctor):
            blocked = viewer.page.get_by_test_id("binding-mismatch")
            for text in ("MRN-000999", MRN, CARD):
                expect(blocked).to_contain_text(text)
        row(page, "Second monitor").get_by_test_id("binding-open").click()
        expect(page.get_by_test_id("binding-dialog")).to_contain_text("MRN-000999")
        scan(page, MRN, CARD)
        expect(page.get_by_test_id("bind-submit")).to_be_disabled()
        monitor.report(MRN)
        expect(page.get_by_test_id("bind-submit")).to_be_enabled()
        page.get_by_test_id("bind-submit").click()
        expect(page.get_by_test_id("binding-mismatch")).to_have_count(0)
        expect(row(page, "Second monitor").get_by_test_id("binding-bound")).to_be_visible()
    expect(row(page, "Second monitor")).to_have_count(0)

    # On a phone nothing sticks out, and the trace keeps its place.
    page.set_viewport_size({"width": 390, "height": 844})
    expect(bar.get_by_test_id("binding-bound")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_test_id("binding-manage").click()
    dialog = page.get_by_test_id("binding-dialog")
    expect(dialog).to_be_visible()
    assert dialog.evaluate("element => element.scrollWidth <= element.clientWidth")
