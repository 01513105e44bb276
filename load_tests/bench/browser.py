"""What people wait for, measured in real Chromium on a running demo.

All parts share one machine: two cores carry the browsers, the server, the relay
and the simulated room, so these are upper bounds for a hospital's hardware.
"""

from __future__ import annotations

import gzip
import os
import re
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Page, Playwright, sync_playwright

from load_tests.browsers.chromium import Visitor, visitor, wait_until
from load_tests.browsers.steps import (
    expect_live_ecg,
    expect_moving_video,
    first_doctor,
    frames_decoded,
    join_from_prejoin,
    open_running_consult,
    open_wall,
    sign_in,
    take_lead,
)
from load_tests.rig.demo_process import Demo, demo
from load_tests.rig.figures import Scalar, emit, median, note, percentile

DIST = Path(__file__).resolve().parents[2] / "web_client" / "dist"
JOINS = 10
PAGE_TURNS = 20
KILLS = 3


def first_frame_ms(person: Visitor) -> float:
    """Time from the click on Join to the first picture, as the page itself marked it."""

    def read() -> float | None:
        value = person.page.evaluate("async () => (await window.__consilium.stats()).clickToFirstFrameMs")
        return None if value is None else float(value)

    wait_until(person.page, lambda: read() is not None, "the first frame", 30_000)
    measured = read()
    assert measured is not None
    return measured


def joins(person: Visitor) -> None:
    """Join, leave by reloading, join again."""
    taken = []
    for _ in range(JOINS):
        person.page.reload()
        join_from_prejoin(person)
        taken.append(first_frame_ms(person))
    params: dict[str, Scalar] = {"joins": JOINS, "loopback": True, "video": "720p30 VP8"}
    emit("click_to_first_frame_ms_p50", percentile(taken, 50), "ms", params)
    emit("click_to_first_frame_ms_p95", percentile(taken, 95), "ms", params)


def watch_page(page: Page) -> None:
    """Note the wall-clock time of each page that the record pane comes to show."""
    page.evaluate(
        """() => {
          window.__turned = {};
          const note = () => {
            const shown = document.querySelector('[data-testid=record-page]')?.getAttribute('data-page');
            if (shown && !(shown in window.__turned)) window.__turned[shown] = Date.now();
          };
          new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )


def page_turns(lead: Visitor, follower: Visitor) -> None:
    """From the lead's click to the follower's page, both browsers on one clock."""
    take_lead(lead)
    taken = []
    for turn in range(PAGE_TURNS):
        name = ("labs", "problems")[turn % 2]
        watch_page(follower.page)
        clicked = lead.page.evaluate(
            f"() => {{ document.querySelector('[data-testid=record-tab-{name}]').click(); return Date.now(); }}"
        )
        wait_until(
            follower.page,
            lambda name=name: follower.page.evaluate(f"'{name}' in window.__turned"),  # type: ignore[misc]
            f"page {name}",
        )
        taken.append(follower.page.evaluate(f"window.__turned['{name}']") - clicked)
    params = {"turns": PAGE_TURNS, "followers": 1}
    emit("page_turn_ms_p50", percentile(taken, 50), "ms", params)
    emit("page_turn_ms_p95", percentile(taken, 95), "ms", params)


def worker_kills(hub: Demo, person: Visitor) -> None:
    """From SIGKILL of the media worker to newly decoded frames in the same page."""
    taken = []
    for _ in range(KILLS):
        expect_moving_video(person.page)
        expect_live_ecg(person.page)
        worker = hub.worker_pid()
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        # The old receivers' count stands still or goes to zero; the new ones start from zero and grow.
        stopped_at = frames_decoded(person.page)
        while True:
            now = frames_decoded(person.page)
            if hub.worker_pid() not in (None, worker) and 0 < now != stopped_at and now < stopped_at:
                break
            if time.monotonic() - killed > 60:
                raise AssertionError("the picture did not come back within 60 s")
            person.page.wait_for_timeout(20)
        taken.append((time.monotonic() - killed) * 1000)
    emit("worker_kill_recovery_ms_p50", median(taken), "ms", {"kills": KILLS, "until": "first newly decoded frame"})


def bundle_sizes() -> None:
    """Scripts that each page loads before it is asked for anything lazy, gzipped."""
    for entry in ("index", "consult", "wall"):
        html = (DIST / f"{entry}.html").read_text()
        scripts = set(re.findall(r'(?:src|href)="/?(assets/[^"]+\.js)"', html))
        size = sum(len(gzip.compress((DIST / script).read_bytes(), 9)) for script in scripts)
        emit("bundle_js_gzip_bytes", size, "bytes", {"entry": entry, "files": len(scripts)})


def measure(playwright: Playwright, folder: Path) -> None:
    """Everything that needs a running demo."""
    note("starting a demo")
    with demo(folder / "data") as hub, ExitStack() as stack:
        anna = stack.enter_context(visitor(playwright, "anna", folder / "anna", hub.url))
        sign_in(anna, first_doctor(hub))
        open_running_consult(anna)
        expect_moving_video(anna.page)
        note(f"{JOINS} joins")
        joins(anna)
        wall = stack.enter_context(visitor(playwright, "wall", folder / "wall", hub.url, camera=False))
        open_wall(wall, 1, "record")
        note(f"{PAGE_TURNS} page turns")
        page_turns(anna, wall)
        note(f"{KILLS} kills of the media worker")
        worker_kills(hub, anna)


def run() -> None:
    """All browser figures."""
    bundle_sizes()
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder, sync_playwright() as playwright:
        measure(playwright, Path(folder))


if __name__ == "__main__":
    run()
