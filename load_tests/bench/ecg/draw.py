"""Drawing twelve leads at 500 Hz: pictures a second and CPU, beside uPlot doing the same and beside an idle page.

The harness page of the waveform folder draws ten seconds of a made-up ECG at 1920 x 1080 with our view or with uPlot,
set anew for each frame as its users do. The three take turns in one browser, so that what else the machine does meets
all alike, and the medians count. CPU is what the kernel charged to the main threads of pages and to all processes of
the browser.

A run is marked invalid when something else held it up: even the idle page had fewer than ``IDLE_FPS`` frames a second,
or its main thread waited for a core more than ``WAIT_SHARE`` of the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import sync_playwright

from load_tests.browsers.page import Browser, browser, served
from load_tests.browsers.web_bundle import BUILD_TIMEOUT_S, WEB_CLIENT, why_not
from load_tests.rig.figures import Scalar, emit, median, note

ENGINES = ("idle", "ours", "uplot")
ROUNDS = 3
ROUND_S = 4.0
SETTLE_MS = 2500
IDLE_FPS = 55.0
WAIT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Turn:
    """One engine for a while."""

    fps: float
    page_fps: float
    js_ms: float
    main_share: float
    wait_share: float
    core_share: float


def build(folder: Path) -> None:
    """The harness without the test hook, which would count too."""
    config = WEB_CLIENT / "src" / "waveform" / "harness" / "vite.config.ts"
    command = [shutil.which("node") or "node", str(WEB_CLIENT / "node_modules" / "vite" / "bin" / "vite.js"), "build"]
    command += ["--config", str(config), "--outDir", str(folder), "--emptyOutDir", "--logLevel", "error"]
    environment = os.environ | {"CONSILIUM_ECG_BENCH": "1"}
    subprocess.run(command, check=True, cwd=WEB_CLIENT, env=environment, timeout=BUILD_TIMEOUT_S)


def turn(chromium: Browser, address: str, engine: str, seconds: float) -> Turn:
    """Load the page and measure it."""
    page = chromium.page
    page.goto(f"{address}bench.html?engine={engine}")
    page.wait_for_timeout(SETTLE_MS)
    (ran_s, waited_s), cpu_s, began = chromium.main_threads_s(), chromium.cpu_s(), time.monotonic()
    told = page.evaluate("seconds => bench.measure(seconds)", seconds)
    elapsed_s = time.monotonic() - began
    ran_now_s, waited_now_s = chromium.main_threads_s()
    return Turn(
        fps=told["fps"],
        page_fps=told["pageFps"],
        js_ms=told["jsMs"],
        main_share=(ran_now_s - ran_s) / elapsed_s,
        wait_share=(waited_now_s - waited_s) / elapsed_s,
        core_share=(chromium.cpu_s() - cpu_s) / elapsed_s,
    )


def run(rounds: int = ROUNDS, seconds: float = ROUND_S) -> None:
    """The figures."""
    if (reason := why_not()) is not None:
        note(f"ecg_draw: {reason}")
        return
    turns: dict[str, list[Turn]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as made, sync_playwright() as playwright:
        build(Path(made))
        with served(Path(made)) as address, browser(playwright) as chromium:
            for _ in range(rounds):
                for engine in ENGINES:
                    turns[engine].append(turn(chromium, address, engine, seconds))
                    note(f"ecg_draw: {engine} {turns[engine][-1]}")

    def of(engine: str, name: str) -> float:
        return median([getattr(one, name) for one in turns[engine]])

    idle_fps, waited = of("idle", "page_fps"), of("idle", "wait_share")
    params: dict[str, Scalar] = {
        "leads": 12, "rate_hz": 500, "window_s": 10, "width": 1920, "height": 1080, "rounds": rounds,
        "idle_page_fps": round(idle_fps, 1), "idle_wait_share": round(waited, 3),
        "valid": idle_fps >= IDLE_FPS and waited <= WAIT_SHARE,
    }  # fmt: skip
    emit("ecg_draw_fps", of("ours", "fps"), "1/s", params, {"uplot": of("uplot", "fps")})
    emit("ecg_draw_js_ms_per_picture", of("ours", "js_ms"), "ms", params, {"uplot": of("uplot", "js_ms")})
    for figure, name in (("ecg_draw_main_thread_share", "main_share"), ("ecg_draw_browser_core_share", "core_share")):
        against = {"uplot": of("uplot", name), "idle_page": of("idle", name)}
        emit(figure, of("ours", name), "share", params, against)


if __name__ == "__main__":
    run()
