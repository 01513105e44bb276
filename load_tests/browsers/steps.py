"""What people do and see in a browser, in the words of tests and benchmarks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from load_tests.browsers.chromium import WAIT_MS, Visitor, wait_until
from load_tests.rig.demo_process import Demo


def sign_in(person: Visitor, demo_login: str) -> None:
    """Through the sign-in page, with one of the demo's accounts."""
    person.page.goto(person.origin + "/login")
    person.page.get_by_test_id(f"demo-login-{demo_login}").click()
    person.page.wait_for_url(person.origin + "/")


def first_doctor(hub: Demo) -> str:
    """Login of the demo's first doctor."""
    config: Any = hub.api("/api/config")
    return str(next(entry["login"] for entry in config["demo_logins"] if entry["role"] == "doctor"))


def open_running_consult(person: Visitor) -> str:
    """From the list of consults through the pre-join page to the desk; the consult's id."""
    person.page.locator("[data-testid^=btn-join-]").first.click()
    person.page.wait_for_url("**/consult/*")
    consult = person.page.url.rsplit("/", 1)[1].split("?")[0]
    join_from_prejoin(person)
    return consult


def join_from_prejoin(person: Visitor) -> None:
    """Press Join and wait for the desk."""
    person.page.get_by_test_id("prejoin-join").click()
    expect(person.page.get_by_test_id("desk-root")).to_be_visible()


def open_wall(wall: Visitor, screen: int, role: str) -> None:
    """A demo wall display: paired without a code, in the running consult."""
    wall.page.goto(f"{wall.origin}/wall?screen={screen}&demo=1")
    expect(wall.page.locator(f"[data-testid=wall-root][data-role={role}]")).to_be_visible()


def frames_decoded(page: Page) -> int:
    """Sum of decoded frames over all received video."""
    return int(page.evaluate("async () => (await window.__consilium.stats()).framesDecoded"))


def audio_energy(page: Page) -> float:
    """Sum of received audio energy."""
    return float(page.evaluate("async () => (await window.__consilium.stats()).audioEnergy"))


def expect_growth(page: Page, read: Callable[[Page], float], more: float, what: str) -> None:
    """A figure grows by more than this; what was made anew meanwhile counts from zero again."""
    seen, grown = read(page), 0.0

    def enough() -> bool:
        nonlocal seen, grown
        now = read(page)
        grown += max(0.0, now - seen)
        seen = now
        return grown > more

    wait_until(page, enough, what)


def expect_moving_video(page: Page) -> None:
    """Decoded frames keep growing."""
    expect_growth(page, frames_decoded, 20, "twenty more decoded frames")


def expect_sound(page: Page) -> None:
    """Received sound is not silence."""
    expect_growth(page, audio_energy, 0.0, "audio energy above zero")


def expect_redundant_sound(page: Page) -> None:
    """A voice arrives as RED and is played: each packet repeats the sound before it, which is there already."""
    sounds = "async () => (await window.__consilium.stats()).consumers.filter((one) => one.kind === 'audio')"

    def repeated() -> bool:
        return any(
            one["packetsDiscarded"] > one["packetsReceived"] // 2 > 20 and one["audioEnergy"] > 0
            for one in page.evaluate(sounds)
        )

    wait_until(page, repeated, "sound that is sent as RED and played")


def speak(person: Visitor) -> None:
    """Switch the microphone on, unless it is: joining at once leaves it off."""
    switch = person.page.get_by_test_id("btn-mute")
    if switch.get_attribute("aria-pressed") != "true":
        switch.click()
    expect(switch).to_have_attribute("aria-pressed", "true")


def samples_drawn(page: Page) -> int:
    """Samples that the ECG view says it has drawn."""
    return int(page.get_by_test_id("ecg").first.get_attribute("data-samples-drawn") or 0)


def expect_live_ecg(page: Page, timeout_ms: int = WAIT_MS) -> None:
    """The trace is LIVE and its pixels move."""
    ecg = page.get_by_test_id("ecg").first
    expect(ecg).to_have_attribute("data-state", "LIVE", timeout=timeout_ms)
    expect_growth(page, samples_drawn, 500, "five hundred more samples drawn")
    box = ecg.bounding_box()
    assert box is not None, "the ECG is not laid out"
    # The page's picture, not the element's: that one waits for two animation frames in which nothing moved.
    area = {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}
    picture = page.screenshot(clip=area)  # type: ignore[arg-type]
    wait_until(page, lambda: page.screenshot(clip=area) != picture, "the ECG picture moves")  # type: ignore[arg-type]


WATCH_ECG = """() => {
  window.__ecgSaid = [];
  window.__ecgWatch?.disconnect();
  const look = () => {
    const {state = 'NONE', samplesDrawn = '0', ageMs = ''} = document.querySelector('[data-testid=ecg]')?.dataset ?? {};
    const last = window.__ecgSaid.at(-1);
    if (last?.state === state && last.drawn === Number(samplesDrawn)) return;
    window.__ecgSaid.push({state, drawn: Number(samplesDrawn), age_ms: ageMs === '' ? null : Number(ageMs)});
  };
  look();
  window.__ecgWatch = new MutationObserver(look);
  window.__ecgWatch.observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def watch_ecg(page: Page) -> None:
    """Note from now on all that the trace says of itself: some of it lasts only two seconds."""
    page.evaluate(WATCH_ECG)


def ecg_said(page: Page) -> list[dict[str, Any]]:
    """Since `watch_ecg`, in order: ``state``, ``drawn`` samples, ``age_ms`` (None while there is none)."""
    return list(page.evaluate("window.__ecgSaid"))


def expect_page(page: Page, name: str) -> None:
    """The record pane shows this page."""
    expect(page.locator(f"[data-testid=record-page][data-page={name}]")).to_be_visible()


def expect_patient(page: Page, patient: str) -> None:
    """The banner names this patient."""
    expect(page.locator(f'[data-testid=patient-banner][data-patient="{patient}"]').first).to_be_visible()


def shown_patient(page: Page) -> str:
    """Patient id of the banner."""
    return str(page.get_by_test_id("patient-banner").first.get_attribute("data-patient"))


def take_lead(person: Visitor) -> None:
    """Become the one whom the others follow, unless it is so already.

    What is asked for while the page falls out of sync comes to nothing: as a person would, it is asked for again.
    """
    lead = person.page.get_by_test_id("btn-lead")
    for _ in range(5):
        if lead.get_attribute("data-leading") == "true":
            return
        lead.click()
        with contextlib.suppress(AssertionError):
            expect(lead).to_have_attribute("data-leading", "true", timeout=WAIT_MS / 4)
    expect(lead).to_have_attribute("data-leading", "true")


def invite(host: Visitor, name: str) -> str:
    """Make a one-time guest link in the toolbar's dialog."""
    host.page.get_by_test_id("btn-invite").click()
    host.page.get_by_test_id("invite-name").fill(name)
    host.page.get_by_test_id("invite-create").click()
    link = host.page.get_by_test_id("invite-url").input_value()
    host.page.keyboard.press("Escape")
    expect(host.page.get_by_test_id("invite-url")).to_have_count(0)
    return link


def join_by_link(guest: Visitor, link: str) -> None:
    """Open the link, confirm, join without looking at the devices."""
    guest.page.goto(link)
    guest.page.get_by_test_id("btn-redeem").click()
    guest.page.wait_for_url("**/consult/*")
    join_from_prejoin(guest)


def open_patient(person: Visitor, patient: str) -> None:
    """Open a patient of the consult on every screen, confirming the identity."""
    person.page.get_by_test_id("btn-open-patient").click()
    person.page.get_by_test_id(f"patient-choice-{patient}").click()
    person.page.get_by_test_id("patient-confirm").click()
    expect_patient(person.page, patient)


MONITORED_PATIENT = "demo-shen"
"""The sample patient whom the demo's simulated monitor is bound to."""


def with_monitored_patient(person: Visitor) -> None:
    """Open the patient whose ECG runs, unless it is open."""
    if shown_patient(person.page) != MONITORED_PATIENT:
        open_patient(person, MONITORED_PATIENT)
