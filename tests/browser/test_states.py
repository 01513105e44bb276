"""States people can trust: what has stopped looks stopped, and counts the seconds. [W11-W14]

The simulated room and monitor are stopped as processes (SIGSTOP), so that nothing
says goodbye: exactly what a dead line looks like.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from load_tests.browsers.chromium import Visitor, wait_until
from load_tests.browsers.steps import (
    ecg_said,
    expect_live_ecg,
    expect_moving_video,
    first_doctor,
    open_running_consult,
    sign_in,
    watch_ecg,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo
from tests.browser import ecg_work

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@contextlib.contextmanager
def stopped(hub: Demo, module: str) -> Iterator[None]:
    """Hold a child process of the demo."""
    pid = next(pid for pid, command in hub.children().items() if module in command)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def anna(hub: Demo, open_visitor: Callable[..., Visitor]) -> Visitor:
    visitor = open_visitor("anna", camera=False)
    sign_in(visitor, first_doctor(hub))
    open_running_consult(visitor)
    with_monitored_patient(visitor)
    expect_moving_video(visitor.page)
    expect_live_ecg(visitor.page)
    return visitor


def test_a_silent_monitor_is_stale_then_lost_and_comes_back_live(hub: Demo, anna: Visitor) -> None:
    """[W12] [W13] STALE, then LOST; nothing is drawn meanwhile; afterwards the present, not the past."""
    watch_ecg(anna.page)
    with stopped(hub, "server.demo.monitor"):
        wait_until(anna.page, lambda: any(one["state"] == "LOST" for one in ecg_said(anna.page)), "the trace is LOST")
        said = ecg_said(anna.page)
    states = [one["state"] for one in said]
    assert "STALE" in states[: states.index("LOST")]
    # A device that is silent for ten seconds has left the consult: then the pane begins anew, with nothing drawn.
    assert len({one["drawn"] for one in said if one["state"] in ("STALE", "LOST")} - {0}) == 1
    expect_live_ecg(anna.page)


@pytest.mark.long
def test_a_silent_room_is_greyed_and_counts(hub: Demo, anna: Visitor, tmp_path: Path) -> None:
    """No frame for 3 s: the tile says so and counts; with frames again it is a picture again.

    Before and meanwhile the ECG is worked on: rate, import, compare, download, and a strip that takes its time.
    """
    ecg_work.shows_the_computed_rate(anna.page)
    ecg_work.imports_beside_the_trace(anna.page)
    ecg_work.downloads_the_recording(anna.page, tmp_path)
    ecg_work.keeps_a_strip(anna.page)
    with stopped(hub, "server.demo.room"):
        age = anna.page.get_by_test_id("video-age").first
        expect(age).to_be_visible()
        first = age.inner_text()
        wait_until(anna.page, lambda: age.inner_text() != first, "the seconds count")
    expect(anna.page.get_by_test_id("video-age")).to_have_count(0)
    expect_moving_video(anna.page)
    ecg_work.strip_is_kept(anna.page)


def test_a_page_without_its_server_says_so_and_comes_back(anna: Visitor) -> None:
    """[W19] Reconnecting is said, clinical content goes; online again everything is back without a reload."""
    anna.page.evaluate("window.__notReloaded = true")
    anna.context.set_offline(True)
    expect(anna.page.get_by_test_id("connection-banner")).to_be_visible()
    expect(anna.page.get_by_test_id("record-page")).to_have_count(0)
    anna.context.set_offline(False)
    expect(anna.page.get_by_test_id("record-page")).to_be_visible()
    expect_moving_video(anna.page)
    expect_live_ecg(anna.page)
    assert anna.page.evaluate("window.__notReloaded") is True
