"""The second half of `make soak`: an hour of live ECG through everything; nothing of it may grow.

The whole demo with its monitor and its room, and one real Chromium that shows the trace and the picture. Every
``LOOK_S`` seconds the memory of the media workers, of the server and of the browser is read, as proportional set size:
what processes share counts once. The run fails when the trace was not LIVE at a look, or when, over the second half,
one of the three grows faster than its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import sync_playwright

from load_tests.bench.soak import JUDGED_MINUTES, slope_per_hour
from load_tests.browsers.chromium import visitor
from load_tests.browsers.page import descendants, root_process
from load_tests.browsers.steps import (
    expect_live_ecg,
    first_doctor,
    open_running_consult,
    sign_in,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo, demo
from load_tests.rig.figures import Scalar, emit, note

LOOK_S = 10.0
GROWTH_LIMIT_MB_PER_H = {"worker": 20.0, "server": 20.0, "browser": 60.0}
"""Of the browser more: its collector runs when it likes."""
VIEW = """() => {
  const view = document.querySelector('[data-testid=ecg]');
  const desk = document.querySelector('[data-testid=desk-root]');
  const told = [view?.dataset.state ?? 'no view', view?.dataset.why, desk?.dataset.phase, desk?.dataset.path];
  return [told.filter(Boolean).join(', '), Number(view?.dataset.samplesDrawn ?? -1)];
}"""
"""What the view says, why it has no trace where it has none, and how the page is with the hub and the relay."""


def proportional_mb(pids: Iterable[int]) -> float:
    """Memory of some processes, shared pages divided by who share them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1000


def memory_mb(hub: Demo, browser_pid: int) -> dict[str, float]:
    """Now, of each of the three."""
    workers = [pid for pid, command in hub.children().items() if "media.aio.worker" in command]
    return {
        "worker": proportional_mb(workers),
        "server": proportional_mb([hub.process.pid]),
        "browser": proportional_mb([browser_pid, *descendants(browser_pid)]),
    }


def soak(minutes: float) -> int:
    """Watch until the time is over; 0 when nothing grew and the trace was live throughout."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in GROWTH_LIMIT_MB_PER_H}
    not_live = looks = 0
    with tempfile.TemporaryDirectory(prefix="consilium-soak-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        with (
            sync_playwright() as playwright,
            demo(folder / "data", ready_within_s=600.0) as hub,
            visitor(playwright, "anna", folder / "anna", hub.url) as anna,
        ):
            sign_in(anna, first_doctor(hub))
            open_running_consult(anna)
            with_monitored_patient(anna)
            expect_live_ecg(anna.page, 60_000)
            browser_pid = root_process(str(folder / "anna"))
            began, drawn_before = time.monotonic(), -1
            while time.monotonic() - began < minutes * 60:
                anna.page.wait_for_timeout(LOOK_S * 1000)
                looks += 1
                state, drawn = anna.page.evaluate(VIEW)
                not_live += not state.startswith("LIVE") or drawn == drawn_before
                drawn_before = drawn
                now_s, memory = time.monotonic() - began, memory_mb(hub, browser_pid)
                for name, value in memory.items():
                    taken[name].append((now_s, value))
                told = ", ".join(f"{name} {value:.1f} MB" for name, value in memory.items())
                note(f"ecg_soak {now_s / 60:.1f} min: {told}, {state}")
    return _judge(minutes, taken, looks, not_live)


def _judge(minutes: float, taken: dict[str, list[tuple[float, float]]], looks: int, not_live: int) -> int:
    grew = False
    for name, samples in taken.items():
        growth = slope_per_hour(samples[len(samples) // 2 :])
        limit = GROWTH_LIMIT_MB_PER_H[name]
        params: dict[str, Scalar] = {
            "process": name, "minutes": minutes, "looks": looks, "last_mb": round(samples[-1][1], 1), "limit": limit,
            "judged": minutes >= JUDGED_MINUTES,
        }  # fmt: skip
        emit("ecg_soak_memory_growth_mb_per_h", growth, "MB/h", params)
        grew |= minutes >= JUDGED_MINUTES and growth > limit
    emit("ecg_soak_looks_not_live", not_live, "count", {"minutes": minutes, "looks": looks})
    return 1 if grew or not_live else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Soak a live ECG: worker, server and browser.")
    parser.add_argument("--minutes", type=float, default=60.0)
    return soak(parser.parse_args().minutes)


if __name__ == "__main__":
    sys.exit(main())
