"""The ECG display in a real browser: what is painted, to the pixel, and what it says about itself.

A page holding one EcgView and a wire in the test's hands; frames are made here by the
same code that sources use.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, TimeoutError

from load_tests.browsers.chromium import WAIT_MS, wait_until
from load_tests.browsers.steps import ecg_said, watch_ecg
from media.core.waveform import FrameWriter, StreamFormat, split_message

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CLIENT = Path(__file__).parents[2] / "web_client"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PX_PER_MM = 96 / 25.4
RATE_HZ = 500
BLOCK = 50
BLOCK_US = BLOCK * 1_000_000 // RATE_HZ
DARK = 130
"""The trace is darker than this, antialiased edges included; paper, grid and hatch are lighter."""
TAIL_S = 20
"""How long a flat line follows a played signal: the display stays live while it is looked at."""

DESCRIPTOR: dict[str, Any] = {
    "stream_id": 7, "leads": ["II"], "sample_rate_mhz": RATE_HZ * 1000, "lsb_nv": 1000, "device": "Monitor",
    "filter": "0.05-150 Hz", "simulated": True, "patient": "p1",
}  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    node = shutil.which("node")
    vite = CLIENT / "node_modules" / "vite" / "bin" / "vite.js"
    if node is None or not vite.exists():
        pytest.skip("the web client's modules are not installed")
    out = tmp_path_factory.mktemp("harness")
    config = CLIENT / "src" / "waveform" / "harness" / "vite.config.ts"
    build = [node, str(vite), "build", "--config", str(config), "--outDir", str(out), "--logLevel", "error"]
    subprocess.run(build, cwd=CLIENT, check=True, timeout=110)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(out)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
    yield running
    running.close()


class Ecg:
    """The page, and the source that feeds it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.writer = FrameWriter(
            StreamFormat(stream_id=7, leads=1, sample_rate_mhz=RATE_HZ * 1000, lsb_nv=1000, simulated=True)
        )
        self.context = 1
        self.frames: list[bytes] = []
        self.start_us = 0
        """Server time of the first sample of the signal played last."""

    def show(self, **changes: object) -> None:
        settings = {"stream": DESCRIPTOR, "contextVersion": 1, "theme": "light", "lang": "en", **changes}
        self.page.evaluate("s => harness.show(s)", settings)
        self.page.wait_for_selector("[data-testid=ecg] canvas")
        self.page.wait_for_function("document.querySelector('[data-testid=ecg]').dataset.context !== undefined")

    def make(self, samples: NDArray[np.int16], start_us: int) -> list[tuple[int, bytes]]:
        """Frames of a signal, each with the time at which its last sample is over, without redundancy."""
        made = []
        for i in range(len(samples) // BLOCK):
            block = samples[i * BLOCK : (i + 1) * BLOCK].reshape(1, -1)
            t0_us = start_us + i * BLOCK_US
            frame = split_message(self.writer.write(block, t0_us=t0_us, context_version=self.context))[0].encoded
            self.frames.append(frame)
            made.append((t0_us + BLOCK_US, frame))
        return made

    def now_us(self) -> int:
        return int(self.page.evaluate("harness.nowUs()"))

    def send(self, samples: NDArray[np.int16], *, lost: tuple[int, ...] = ()) -> None:
        """Send a signal at once that ends now."""
        made = self.make(samples, self.now_us() - len(samples) // BLOCK * BLOCK_US)
        messages = [base64.b64encode(frame).decode() for i, (_, frame) in enumerate(made) if i not in lost]
        self.page.evaluate("ms => { for (const m of ms) harness.channel.push(m); }", messages)

    def live(self, samples: NDArray[np.int16] | None = None) -> None:
        """Send a signal that ends now until the display is LIVE with one: on a busy machine it may be old by then."""
        for _ in range(10):
            self.send(np.zeros(1000, np.int16) if samples is None else samples)
            with contextlib.suppress(TimeoutError):
                self.wait("state", "LIVE", timeout_ms=5_000)
                return
        raise AssertionError("never LIVE")

    def play(self, samples: NDArray[np.int16], *, lost: tuple[int, ...] = ()) -> None:
        """Send a signal frame by frame as time goes on, then a flat line; return when the signal is drawn."""
        flat = np.zeros(TAIL_S * RATE_HZ, np.int16)
        self.start_us = self.now_us() + 200_000
        made = self.make(np.concatenate((samples, flat)), self.start_us)
        frames = [
            {"atUs": at_us, "message": base64.b64encode(frame).decode()}
            for i, (at_us, frame) in enumerate(made)
            if i not in lost
        ]
        self.page.evaluate("frames => harness.channel.play(frames)", frames)
        self.wait_drawn(len(samples) + 2 * BLOCK)
        self.wait("state", "LIVE")

    def resend(self, frame: bytes) -> None:
        self.page.evaluate("m => harness.channel.push(m)", base64.b64encode(frame).decode())

    def data(self, name: str) -> str:
        return str(self.page.get_attribute("[data-testid=ecg]", f"data-{name}"))

    def wait(self, name: str, value: str, timeout_ms: int = WAIT_MS) -> None:
        self.page.wait_for_selector(f"[data-testid=ecg][data-{name}='{value}']", timeout=timeout_ms, state="attached")

    def wait_drawn(self, samples: int) -> None:
        self.page.wait_for_function(
            "n => Number(document.querySelector('[data-testid=ecg]').dataset.samplesDrawn) >= n", arg=samples
        )

    def hide_text(self) -> None:
        self.page.add_style_tag(content="canvas + canvas { display: none; }")

    def grey(self) -> NDArray[np.int64]:
        """The picture as brightness, shape (height, width), device pixels."""
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("L")
        return np.asarray(image).astype(np.int64)

    def trace(self, dpr: float) -> NDArray[np.int64]:
        """Ink of the trace right of the calibration mark: 0 where there is none."""
        ink = np.maximum(0, DARK - self.grey())
        ink[:, : round(9.2 * PX_PER_MM * dpr)] = 0
        return ink


@pytest.fixture
def open_ecg(browser: Browser, address: str) -> Iterator[Any]:
    contexts = []

    def opener(width: int = 1000, height: int = 420, dpr: float = 1.0, **settings: object) -> Ecg:
        context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=dpr)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto(address)
        ecg = Ecg(page)
        ecg.show(**settings)
        return ecg

    yield opener
    for context in contexts:
        context.close()


def centres(ink: NDArray[np.int64]) -> list[float]:
    """Centres of the separate inked stretches of one line of pixels."""
    inked = np.flatnonzero(ink)
    runs = np.split(inked, np.flatnonzero(np.diff(inked) > 1) + 1)
    return [float(np.average(run, weights=ink[run])) for run in runs if len(run)]


def levels(ink: NDArray[np.int64]) -> tuple[float, float]:
    """Heights of the two horizontal lines of a pulse: rows with far more ink than its edges alone leave."""
    rows = ink.sum(axis=1)
    top, bottom = centres(rows * (rows > 2.5 * np.median(rows[rows > 0])))
    return top, bottom


@pytest.mark.parametrize("dpr", [1.0, 1.25, 1.5, 2.0])
def test_one_millivolt_for_200_ms_is_10_by_5_mm(open_ecg: Any, dpr: float) -> None:
    """[W26] [W27] [W34] Two big boxes by one, within one device pixel, at any pixel ratio."""
    ecg = open_ecg(dpr=dpr)
    ecg.hide_text()
    signal = np.zeros(RATE_HZ, np.int16)
    signal[200:300] = 1000
    ecg.play(signal)
    ink = ecg.trace(dpr)
    top, bottom = levels(ink)
    left, right = centres(ink[round((top + bottom) / 2)])

    assert bottom - top == pytest.approx(10 * PX_PER_MM * dpr, abs=1)
    assert right - left == pytest.approx(5 * PX_PER_MM * dpr, abs=1)


def test_calibration_mark_has_the_same_size(open_ecg: Any) -> None:
    """[W28] 1 mV by 200 ms at the left of the strip."""
    ecg = open_ecg()
    ecg.hide_text()
    ecg.play(np.zeros(BLOCK, np.int16))
    ink = np.maximum(0, DARK - ecg.grey())
    ink[:, round(8.5 * PX_PER_MM) :] = 0
    top, bottom = levels(ink)
    left, right = centres(ink[round((top + bottom) / 2)])

    assert bottom - top == pytest.approx(10 * PX_PER_MM, abs=1)
    assert right - left == pytest.approx(5 * PX_PER_MM, abs=1)


def measure(ink: NDArray[np.int64], dpr: float) -> tuple[float, float, float]:
    """Rising edges of the two pulses, and the width of the hole in the line between them, device pixels."""
    baseline = int(ink.sum(axis=1).argmax())
    edges = centres(ink[baseline - round(5 * PX_PER_MM * dpr)])
    assert len(edges) == 4, "two pulses are on screen"
    line = ink[baseline - 1 : baseline + 2].max(axis=0) > 0
    between = np.flatnonzero(line[round(edges[1]) : round(edges[2])])
    return edges[0], edges[2], float(np.diff(between).max() - 1)


@pytest.mark.parametrize("dpr", [1.0, 2.0])
def test_a_lost_frame_is_a_blank_of_exact_width(open_ecg: Any, dpr: float) -> None:
    """[W2] [W3] Nothing in the hole, and what follows stands where it belongs; repaired when it comes late [W4]."""
    ecg = open_ecg(dpr=dpr)
    ecg.hide_text()
    signal = np.zeros(900, np.int16)
    for at in (200, 700):
        signal[at : at + 40] = 1000
    ecg.play(signal, lost=(9,))
    ecg.wait("gaps", "1")
    ink = ecg.trace(dpr)
    first, second, hole = measure(ink, dpr)
    px_per_sample = 25 * PX_PER_MM * dpr / RATE_HZ

    # From the last sample before the hole to the first after it there are 51 steps.
    assert hole == pytest.approx(51 * px_per_sample, abs=1)
    assert second - first == pytest.approx(500 * px_per_sample, abs=1)

    ecg.resend(ecg.frames[9])
    ecg.wait("gaps", "0")
    again_first, again_second, hole = measure(ecg.trace(dpr), dpr)
    assert (again_first, again_second) == pytest.approx((first, second), abs=0.01)
    assert hole == 0


def test_every_stroked_sample_is_a_sent_one_at_its_own_time(open_ecg: Any) -> None:
    """[W1] [W3] [W4] [W10] Read back from where it was stroked: nothing of what was lost, then the repair in place."""
    ecg = open_ecg(mode="scroll", layout="rhythm", rhythm=["II"])
    signal = np.random.default_rng(4).integers(-400, 400, 900).astype(np.int16)
    signal[333] = 1500
    lost = 7
    ecg.play(signal, lost=(lost,))
    us_per_sample = 1_000_000 // RATE_HZ

    def stroked() -> dict[int, int]:
        drawn = ecg.page.evaluate("document.querySelector('[data-testid=ecg]').ecgDrawn()")
        assert {sample["lead"] for sample in drawn} == {"II"}
        assert {sample["context"] for sample in drawn} == {1}
        places = {(sample["us"] - ecg.start_us) / us_per_sample: sample["value"] for sample in drawn}
        return {int(place): value for place, value in places.items() if place < len(signal)}

    missing = range(lost * BLOCK, (lost + 1) * BLOCK)
    expected = {place: int(signal[place]) for place in range(len(signal)) if place not in missing}
    assert stroked() == expected

    ecg.resend(ecg.frames[lost])
    ecg.wait("gaps", "0")
    repaired = stroked()
    assert {place: repaired[place] for place in missing} == {place: int(signal[place]) for place in missing}
    assert all(value == int(signal[place]) for place, value in repaired.items())


def test_no_product_carries_the_test_hook() -> None:
    """What remembers every sample is in the harness (above), and in nothing that is shipped."""
    dist = CLIENT / "dist"
    if not dist.exists():
        pytest.skip("the web client is not built")
    mark = b"consilium-ecg-drawn-samples"
    shipped = list(dist.rglob("*.js"))
    assert any(b"desynchronized" in path.read_bytes() for path in shipped), "the display's worker is among them"
    assert not [path.name for path in shipped if mark in path.read_bytes() or b"ecgDrawn" in path.read_bytes()]


def test_another_context_leaves_no_pixel_of_the_old_one(open_ecg: Any) -> None:
    """[W19] [W24] Before anything else is shown, every old sample is gone."""
    ecg = open_ecg()
    ecg.live(np.tile(np.arange(0, 1000, 20, dtype=np.int16), 40))
    ecg.wait("context", "1")
    ecg.page.evaluate("harness.change({contextVersion: 2})")
    ecg.wait("sync", "not_in_sync")
    ecg.hide_text()
    assert len(np.unique(ecg.grey())) == 1

    ecg.send(np.zeros(500, np.int16))  # the device still belongs to the old context
    ecg.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(np.unique(ecg.grey())) == 1
    assert ecg.data("context") == ""

    ecg.context = 2
    ecg.send(np.zeros(500, np.int16))
    ecg.wait("context", "2")
    assert ecg.data("sync") == "in_sync"


def test_silence_is_stale_then_lost_and_comes_back(open_ecg: Any) -> None:
    """[W12] [W13] By the table of times; afterwards the display is at now again."""
    ecg = open_ecg()
    watch_ecg(ecg.page)
    ecg.live()
    said: list[dict[str, Any]] = []

    def heard(state: str) -> bool:
        said[:] = ecg_said(ecg.page)
        return said[-1]["state"] == state

    wait_until(ecg.page, lambda: heard("LOST"), "the state LOST")
    states = iter([one["state"] for one in said])
    assert all(state in states for state in ("LIVE", "DELAYED", "STALE", "LOST")), said
    ecg.live()
    assert any(one["state"] == "LIVE" and one["age_ms"] < 1000 for one in ecg_said(ecg.page)[len(said) :])


def test_a_closed_path_is_lost_and_an_open_one_asks_for_what_was_missed(open_ecg: Any) -> None:
    """[W12] And missing frames are asked for."""
    ecg = open_ecg()
    ecg.send(np.zeros(1000, np.int16), lost=(7, 8))
    ecg.page.wait_for_function(
        "harness.channel.asked.some(m => m.t === 'nack' && m.stream === 7 && m.first === 7 && m.last === 8)"
    )
    ecg.page.evaluate("harness.channel.setOpen(false)")
    ecg.wait("state", "LOST")
    ecg.page.evaluate("harness.channel.setOpen(true)")
    ecg.page.wait_for_function("harness.channel.asked.some(m => m.t === 'have' && m.stream === 7 && m.seq === 19)")


def test_after_sleep_it_starts_as_lost(open_ecg: Any) -> None:
    """[W14] What was on screen before the tab slept is not live until something live comes in."""
    ecg = open_ecg()
    ecg.live()
    watch_ecg(ecg.page)
    ecg.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    ecg.wait("state", "LOST")
    assert "STALE" not in [one["state"] for one in ecg_said(ecg.page)], "at once, not when it has aged"
    ecg.live()


def test_a_frozen_worker_is_covered_by_the_page(open_ecg: Any) -> None:
    """[W14] The drawing side hangs: the page says so, and takes it back when it lives again."""
    ecg = open_ecg()
    ecg.live()
    hang = "const end = performance.now() + 4500; while (performance.now() < end);"
    ecg.page.workers[-1].evaluate(f"() => {{ setTimeout(() => {{ {hang} }}, 0); }}")  # and answers before
    ecg.page.wait_for_selector("[data-testid=ecg-stopped]")
    ecg.page.wait_for_selector("[data-testid=ecg-stopped]", state="detached")


def test_a_frame_that_hides_its_simulation_is_not_drawn(open_ecg: Any) -> None:
    """[W9] Announced as real, marked as simulated: refused, whichever way round."""
    ecg = open_ecg(stream={**DESCRIPTOR, "simulated": False})
    ecg.send(np.zeros(1000, np.int16))
    ecg.page.evaluate("new Promise(done => setTimeout(done, 300))")
    assert ecg.data("samples-drawn") == "0"
    assert ecg.data("state") == "LOST"


def test_simulated_is_painted_over_the_strips(open_ecg: Any) -> None:
    """[W9] In the picture itself: the same signal announced as real looks different all over the strips."""
    marked = open_ecg()
    plain = open_ecg(stream={**DESCRIPTOR, "simulated": False})
    strips = slice(60, 380)

    def difference() -> float:
        """Share of the strips that differs, once both have their paper."""
        one, other = marked.grey()[strips], plain.grey()[strips]
        painted = len(np.unique(one)) > 1 and len(np.unique(other)) > 1
        return float((one != other).mean()) if painted else 0.0

    deadline = time.monotonic() + 60  # each worker paints when it gets its turn
    while (found := difference()) <= 0.02 and time.monotonic() < deadline:
        pass
    assert found > 0.02
