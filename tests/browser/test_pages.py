"""Every page as people meet it: accessible in light and dark, usable by keyboard, nothing asked of outside hosts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from load_tests.browsers.chromium import DESKTOP, PHONE, Visitor
from load_tests.browsers.steps import first_doctor, join_from_prejoin, open_wall, sign_in
from load_tests.rig.demo_process import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

AXE = Path(__file__).resolve().parents[2] / "web_client" / "node_modules" / "axe-core" / "axe.min.js"
ECG_PDF = {"name": "ecg.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 an ECG"}
STILL = """() => Promise.all(
  document.getAnimations()
    .filter(one => one.playState === 'running' && one.effect?.getComputedTiming().endTime !== Infinity)
    .map(one => one.finished.catch(() => undefined)),
).then(() => undefined)"""
"""What fades in is not judged halfway."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA, one line per finding."""
    page.evaluate(AXE.read_text())
    page.evaluate(STILL)
    result: Any = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})",
        RULES,
    )
    return [
        f"{found['id']}: {node['target']} {node['html'][:160]} {node['failureSummary'][:300]}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


def visit_all(person: Visitor, hub: Demo) -> dict[str, list[str]]:
    """Walk through the pages of a doctor; what axe says of each."""
    page, found = person.page, {}
    page.goto(person.origin + "/login")
    expect(page.get_by_test_id("btn-sign-in")).to_be_visible()
    found["sign-in"] = violations(page)
    sign_in(person, first_doctor(hub))
    expect(page.locator("[data-testid^=btn-join-]").first).to_be_visible()
    found["consults"] = violations(page)
    page.goto(person.origin + "/station")
    expect(page.locator("[data-testid^=station-]").first).to_be_visible()
    found["station"] = violations(page)
    page.goto(person.origin + "/")
    page.locator("[data-testid^=btn-join-]").first.click()
    expect(page.get_by_test_id("prejoin-join")).to_be_visible()
    found["pre-join"] = violations(page)
    join_from_prejoin(person)
    expect(page.get_by_test_id("patient-banner").first).to_be_visible()
    expect(page.get_by_test_id("ecg").first).to_be_visible()
    found["desk"] = violations(page)
    return {name: lines for name, lines in found.items() if lines}


def sign_in_anew(person: Visitor, hub: Demo, login: str, path: str) -> None:
    """As somebody else in the same browser, and on to a page; the sign-in page itself was seen."""
    config: Any = hub.api("/api/config")
    account = next(entry for entry in config["demo_logins"] if entry["login"] == login)
    answer = person.page.request.post(
        person.origin + "/api/session",
        data={"login": login, "password": account["password"]},
        headers={"Origin": person.origin},
    )
    assert answer.ok, answer.text()
    person.page.goto(person.origin + path)


def ask_for_what_a_pack_lacks(person: Visitor, hub: Demo) -> dict[str, list[str]]:
    """Before the call the expert reads the pack, asks for what is missing, and gets it (issue 5 item 7)."""
    page, found = person.page, {}
    page.goto(person.origin + "/")
    page.get_by_test_id("link-casepack-demo-planned").click()
    ecg = page.get_by_test_id("casepack-missing").get_by_test_id("casepack-part-ecg-12-lead")
    expect(ecg).to_contain_text("too old")
    found["case pack"] = violations(page)
    page.get_by_test_id("casepack-ask-ecg-12-lead").click()
    expect(page.get_by_test_id("casepack-asked-ecg-12-lead")).to_have_attribute("data-status", "asked")

    sign_in_anew(person, hub, "he", "/")
    ask = page.get_by_test_id("casepack-ask-ecg-12-lead")
    ask.get_by_role("button", name="Attach").click()
    found["asks"] = violations(page)
    ask.locator("input[type=file]").set_input_files(files=[ECG_PDF])
    ask.get_by_label("Title").fill("ECG of today")
    ask.locator("input[type=datetime-local]").fill(datetime.now(UTC).astimezone().strftime("%Y-%m-%dT%H:%M"))
    ask.get_by_role("switch").click(force=True)
    ask.get_by_role("button", name="Send").click()
    expect(ask).to_have_count(0)

    sign_in_anew(person, hub, first_doctor(hub), "/casepack/demo-planned")
    answer = page.get_by_test_id("casepack-answers").get_by_role("link", name="ECG of today")
    response = page.request.get(person.origin + str(answer.get_attribute("href")))
    assert (response.headers["content-type"], response.body()) == ("application/pdf", ECG_PDF["buffer"])
    return found


def visit_administration(person: Visitor, hub: Demo) -> dict[str, list[str]]:
    """Gateways, the code for a new one, programs."""
    page, found = person.page, {}
    sign_in_anew(person, hub, "sun", "/admin/gateways")
    page.get_by_test_id("btn-enrol").click()
    page.get_by_test_id("enrol-name").fill("Server room")
    page.get_by_test_id("enrol-make").click()
    expect(page.get_by_test_id("enrol-code")).to_have_text(re.compile("^[A-Z0-9]{4}(-[A-Z0-9]{4}){2}$"))
    expect(page.get_by_test_id("command")).to_contain_text(f"consilium gateway enrol --hub {person.origin}")
    found["enrol"] = violations(page)
    page.get_by_test_id("enrol-done").click()
    expect(page.get_by_test_id("waiting-codes")).to_contain_text("Server room")
    page.goto(person.origin + "/admin/programs")
    page.get_by_test_id("btn-register").click()
    page.get_by_test_id("program-submit").click()
    expect(page.get_by_test_id("program-name")).to_have_attribute("aria-invalid", "true")
    found["programs"] = violations(page)
    return found


@pytest.mark.parametrize(
    ("scheme", "locale", "viewport", "more"),
    [
        ("light", "en-US", DESKTOP, ask_for_what_a_pack_lacks),
        ("dark", "zh-CN", DESKTOP, None),
        ("light", "zh-CN", PHONE, visit_administration),
    ],
    ids=["light-en-desktop", "dark-zh-desktop", "light-zh-phone"],
)
def test_pages_are_accessible(
    hub: Demo,
    open_visitor: Callable[..., Visitor],
    scheme: str,
    locale: str,
    viewport: dict[str, int],
    more: Callable[[Visitor, Demo], dict[str, list[str]]] | None,
) -> None:
    """WCAG 2.2 AA by axe on every page; no request leaves the origin, nothing breaks the content policy."""
    person = open_visitor("visitor", color_scheme=scheme, locale=locale, viewport=viewport)
    assert visit_all(person, hub) == {}
    if more is not None:
        assert {name: lines for name, lines in more(person, hub).items() if lines} == {}
    assert person.foreign_requests == []
    assert [text for text in person.console_errors if "Content Security Policy" in text] == []


TOPS = "tabs => tabs.map(tab => tab.getBoundingClientRect().top)"


def test_walls_are_accessible(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """The pairing screen and the three walls."""
    wall = open_visitor("wall", camera=False)
    wall.page.goto(wall.origin + "/wall?screen=1")
    expect(wall.page.get_by_test_id("pairing-code")).to_be_visible()
    assert violations(wall.page) == []
    for number, role in enumerate(("record", "video", "ecg"), start=1):
        open_wall(wall, number, role)
        expect(wall.page.get_by_test_id("patient-banner").first).to_be_visible()
        assert violations(wall.page) == []
        if role == "record":
            tops = wall.page.locator("[data-testid^=record-tab-]").evaluate_all(TOPS)
            assert (len(tops), len(set(tops))) == (10, 1), "all pages are named in one row"
    assert wall.foreign_requests == []


def test_a_wall_is_paired_by_its_code(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """The code on the wall, typed on the station page, makes it a screen of that station; it is good once."""
    wall = open_visitor("wall", camera=False)
    wall.page.goto(wall.origin + "/wall?screen=2")
    code = wall.page.get_by_test_id("pairing-code").inner_text().strip()
    assert not set(code) & set("0O1I")

    doctor = open_visitor("doctor")
    sign_in(doctor, first_doctor(hub))
    doctor.page.goto(doctor.origin + "/station")
    screens = doctor.page.locator("[data-testid^=btn-pair-]")
    expect(screens.first).to_be_visible()
    screens.last.click()
    doctor.page.get_by_test_id("pairing-code-input").fill(code)
    doctor.page.get_by_test_id("role-video").click()
    doctor.page.get_by_test_id("btn-claim").click()
    expect(wall.page.get_by_test_id("pairing-code")).to_have_count(0)
    expect(wall.page.locator("[data-testid=wall-root]")).to_be_visible()

    screens.first.click()
    doctor.page.get_by_test_id("pairing-code-input").fill(code)
    doctor.page.get_by_test_id("btn-claim").click()
    expect(doctor.page.get_by_test_id("pairing-code-input")).to_have_attribute("aria-invalid", "true")


def test_signing_in_and_joining_needs_no_mouse(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """Type the account, press Enter, tab to Join, press Enter: no camera, no pointer."""
    person = open_visitor("keys", camera=False)
    config: Any = hub.api("/api/config")
    account = next(entry for entry in config["demo_logins"] if entry["role"] == "doctor")
    page = person.page
    page.goto(person.origin + "/login")
    page.get_by_test_id("login").focus()
    page.keyboard.type(account["login"])
    page.keyboard.press("Tab")
    page.keyboard.type(account["password"])
    page.keyboard.press("Enter")
    page.wait_for_url(person.origin + "/")
    expect(page.locator("[data-testid^=btn-join-]").first).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.dataset?.testid?.startsWith('btn-join-') ?? false"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/consult/*")
    expect(page.get_by_test_id("prejoin-join")).to_be_visible()
    for _ in range(30):
        if page.evaluate("document.activeElement?.dataset?.testid === 'prejoin-join'"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("desk-root")).to_be_visible()
    expect(page.get_by_test_id("ecg").first).to_be_visible()
