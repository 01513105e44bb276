"""Every page as people meet it: accessible in light and dark, usable by keyboard, nothing asked of outside hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from load_tests.chromium import DESKTOP, PHONE, Visitor
from load_tests.demo_process import Demo
from load_tests.steps import first_doctor, join_from_prejoin, open_wall, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

AXE = Path(__file__).resolve().parents[2] / "web_client" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA, one line per finding."""
    page.evaluate(AXE.read_text())
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


@pytest.mark.parametrize(
    ("scheme", "locale", "viewport"),
    [("light", "en-US", DESKTOP), ("dark", "zh-CN", DESKTOP), ("light", "zh-CN", PHONE)],
    ids=["light-en-desktop", "dark-zh-desktop", "light-zh-phone"],
)
def test_pages_are_accessible(
    hub: Demo, open_visitor: Callable[..., Visitor], scheme: str, locale: str, viewport: dict[str, int]
) -> None:
    """WCAG 2.2 AA by axe on every page; no request leaves the origin, nothing breaks the content policy."""
    person = open_visitor("visitor", color_scheme=scheme, locale=locale, viewport=viewport)
    assert visit_all(person, hub) == {}
    assert person.foreign_requests == []
    assert [text for text in person.console_errors if "Content Security Policy" in text] == []


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
