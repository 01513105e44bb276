"""The first consult: two doctors and a three-screen station, in real browsers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from load_tests.browsers.chromium import FEW_FRAMES, SMALL_DESK, Visitor, wait_until
from load_tests.browsers.steps import (
    expect_live_ecg,
    expect_moving_video,
    expect_page,
    expect_patient,
    expect_redundant_sound,
    expect_sound,
    first_doctor,
    frames_decoded,
    invite,
    join_by_link,
    join_from_prejoin,
    open_patient,
    open_running_consult,
    open_wall,
    samples_drawn,
    shown_patient,
    sign_in,
    speak,
    take_lead,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo
from tests.browser.drift import Overheard, expect_same_commands, expect_traced, host_cookie, simulated_guest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_two_doctors_and_three_walls(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """The whole path: picture, sound, ECG, record; a crash, a worker's death, a wall cut off. [W14, W19, W24]"""
    # Five browsers paint and encode on one machine.
    little: dict[str, Any] = {"flags": FEW_FRAMES, "viewport": SMALL_DESK}
    anna = open_visitor("anna", **little)
    sign_in(anna, first_doctor(hub))
    consult = open_running_consult(anna)
    with_monitored_patient(anna)
    expect_moving_video(anna.page)
    expect_sound(anna.page)
    expect_live_ecg(anna.page)
    # The picture of the patient's room is dated by the relay, so that the trace can be of the same moment [WF16, W43].
    expect(anna.page.locator("[data-picture-ms]")).to_have_attribute(
        "data-picture-ms", re.compile(r"^\d+$"), timeout=60_000
    )

    # Doctor B by a one-time link.
    bo = open_visitor("bo", **little)
    overheard = Overheard(bo.page)
    join_by_link(bo, invite(anna, "Dr Bo"))
    expect_moving_video(bo.page)
    expect_sound(bo.page)
    speak(anna)
    expect_redundant_sound(bo.page)
    expect_live_ecg(bo.page)
    # A simulated guest of the load tests says to the server what this real one said.
    expect_traced(bo.page, overheard)
    cookie = host_cookie(anna.context.cookies())
    patient = shown_patient(anna.page)
    expect_same_commands(bo, overheard, lambda: simulated_guest(hub.url, consult, patient, cookie))

    # A station's three screens.
    walls = {
        role: open_visitor(f"wall-{role}", camera=False, viewport=SMALL_DESK) for role in ("record", "video", "ecg")
    }
    for number, (role, wall) in enumerate(walls.items(), start=1):
        open_wall(wall, number, role)
    patient = shown_patient(anna.page)
    for wall in walls.values():
        expect_patient(wall.page, patient)
    expect_moving_video(walls["video"].page)
    expect_sound(walls["video"].page)
    expect_live_ecg(walls["ecg"].page)

    # A page turn by A is followed everywhere.
    take_lead(anna)
    anna.page.get_by_test_id("record-tab-labs").click()
    for page in (anna.page, bo.page, walls["record"].page):
        expect_page(page, "labs")

    # Doctor B's browser dies and comes back in the same profile, as the same participant.
    bo_url = bo.page.url
    bo.kill()
    bo = open_visitor("bo", **little)
    bo.page.goto(bo_url)
    join_from_prejoin(bo)
    expect_moving_video(bo.page)
    expect_live_ecg(bo.page)
    expect_page(bo.page, "labs")
    tiles = anna.page.locator("[data-testid^=tile-]", has_text="Dr Bo")
    expect(tiles.first).to_be_visible()
    assert tiles.count() == 1

    # The media worker is killed: picture and trace come back by themselves, no page is reloaded.
    pages = (anna.page, bo.page, walls["video"].page)
    for page in (*pages, walls["ecg"].page):
        page.evaluate("window.__notReloaded = true")
    before = hub.worker_pid()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(
        anna.page,
        lambda: any("media.aio.worker" in c for p, c in hub.children().items() if p != before),
        "a new worker",
    )
    for page in pages:
        expect_moving_video(page)
    for page in (anna.page, bo.page, walls["ecg"].page):
        expect_live_ecg(page)
    for page in (*pages, walls["ecg"].page):
        assert page.evaluate("window.__notReloaded") is True

    # Wall 1 is cut off while the patient changes: it blanks and says so, nobody shows the old patient as current.
    walls["record"].context.set_offline(True)
    anna.page.get_by_test_id("btn-open-patient").click()
    choices = anna.page.locator("[data-testid^=patient-choice-]")
    expect(choices.first).to_be_visible()
    other = next(
        identity
        for identity in (c.get_attribute("data-testid").removeprefix("patient-choice-") for c in choices.all())  # type: ignore[union-attr]
        if identity != patient
    )
    anna.page.keyboard.press("Escape")
    open_patient(anna, other)
    for page in (anna.page, bo.page, walls["video"].page, walls["ecg"].page):
        expect_patient(page, other)
    expect(walls["record"].page.get_by_test_id("not-in-sync")).to_be_visible()
    expect(walls["record"].page.get_by_test_id("record-page")).to_have_count(0)
    expect(walls["record"].page.locator(f'[data-testid=patient-banner][data-patient="{patient}"]')).to_have_count(0)
    for page in (anna.page, walls["video"].page):
        expect(page.get_by_test_id("not-in-sync")).to_contain_text("screen 1")

    # The ECG belongs to the first patient: it must not run under the second one's name.
    drawn = samples_drawn(walls["ecg"].page)
    walls["ecg"].page.wait_for_timeout(1500)
    assert samples_drawn(walls["ecg"].page) == drawn

    # The wall comes back and follows.
    walls["record"].context.set_offline(False)
    expect(walls["record"].page.get_by_test_id("not-in-sync")).to_have_count(0, timeout=60_000)
    expect_patient(walls["record"].page, other)
    expect(walls["record"].page.get_by_test_id("not-in-sync")).to_have_count(0)

    for someone in (anna, bo, *walls.values()):
        assert someone.foreign_requests == []
    assert frames_decoded(bo.page) > 0
