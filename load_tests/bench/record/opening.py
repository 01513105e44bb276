"""From the click that opens a patient to the painted record, in real Chromium: ten thousand resources beside a hundred.

A running demo gets two more patients, filled by the store's own code with checks and index rows. A doctor opens
them by turns; the page itself notes when the click came, when the new identity was painted and when the first page
stood with nothing left to load. All of it shares the machine with the media of the demo.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from load_tests.browsers.chromium import visitor, wait_until
from load_tests.browsers.steps import first_doctor, open_running_consult, sign_in
from load_tests.rig.demo_process import Demo, demo
from load_tests.rig.figures import Scalar, emit, percentile

SIZES = (100, 10_000)
ROUNDS = 8

WATCH = """(wanted) => {
  const seen = window.__opened = {};
  const banner = () => document.querySelector(`[data-testid=patient-banner][data-patient="${wanted}"]`);
  const isWhole = () => {
    const page = document.querySelector('[data-testid=record-page]');
    return banner() !== null && page?.querySelector('li, tr') && !page.querySelector('[data-testid=record-loading]');
  };
  document.addEventListener('click', (event) => {
    if (event.target.closest('[data-testid=patient-confirm]') === null || seen.click !== undefined) return;
    seen.click = performance.now();
    const look = () => {
      // What is true in one frame's callback has been painted when the next one comes.
      const now = performance.now();
      if (seen.hasBanner && seen.banner === undefined) seen.banner = now;
      if (seen.hasPage && seen.page === undefined) seen.page = now;
      seen.hasBanner ||= banner() !== null;
      seen.hasPage ||= isWhole();
      if (seen.page === undefined) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""


def patient_id(size: int) -> str:
    """Of the patient with so many resources."""
    return f"open-{size}"


def opened(page: Page, size: int) -> tuple[float, float]:
    """Milliseconds from the click to the painted identity, and to the first page that stands."""
    patient = patient_id(size)
    page.get_by_test_id("btn-open-patient").click()
    page.get_by_test_id(f"patient-choice-{patient}").click()
    page.evaluate(WATCH, patient)
    page.get_by_test_id("patient-confirm").click()
    wait_until(page, lambda: bool(page.evaluate("window.__opened.page !== undefined")), f"{patient} is open", 120_000)
    seen: dict[str, float] = page.evaluate("window.__opened")
    return seen["banner"] - seen["click"], seen["page"] - seen["click"]


def run(rounds: int = ROUNDS) -> None:
    """Open both by turns."""
    with tempfile.TemporaryDirectory(prefix="record-open-") as folder, demo(Path(folder) / "data") as hub:
        measure(hub, Path(folder) / "profile", rounds)


def measure(hub: Demo, profile: Path, rounds: int) -> None:
    """The figures of a running demo."""
    with sync_playwright() as playwright, visitor(playwright, "doctor", profile, hub.url, camera=False) as doctor:
        sign_in(doctor, first_doctor(hub))
        consult = open_running_consult(doctor)
        sizes = [str(size) for size in SIZES]
        filler = [sys.executable, "-m", "load_tests.bench.record.fill_process", str(hub.data_dir), consult, *sizes]
        subprocess.run(filler, check=True, timeout=600)
        taken: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
        for _ in range(rounds + 1):
            for size in SIZES:
                taken[size].append(opened(doctor.page, size))
    middle = {}
    for size, times in taken.items():
        params: dict[str, Scalar] = {"patient_resources": size, "rounds": rounds, "browser": True}
        # The first of each loads code and warms caches, once a day.
        banners, pages = zip(*times[1:], strict=True)
        middle[size] = percentile(list(pages), 50)
        emit("record_click_to_banner_ms_p50", percentile(list(banners), 50), "ms", params)
        emit("record_click_to_page_ms_p50", middle[size], "ms", params)
        emit("record_click_to_page_ms_max", max(pages), "ms", params)
    emit(
        "record_click_to_page_ratio", middle[SIZES[1]] / middle[SIZES[0]], "1", {"resources": f"{SIZES[1]}/{SIZES[0]}"}
    )


if __name__ == "__main__":
    run()
