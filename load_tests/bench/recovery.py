"""From SIGKILL of a media worker to picture and waveform again, in real Chromium on a running demo.

Nobody touches the page: what is measured is detection, another worker, the news to the clients, their new
Transports (the simulated room's, the monitor's and the browser's), the first key frame and the decoder. The page
notes some 15 times a second what it has decoded and drawn, on the same clock as the kill.

A kill comes at a random phase of the room's key frames, and only when the spare is loaded again: two deaths
within seconds are another figure (``spare: false``).
"""

from __future__ import annotations

import itertools
import json
import os
import random
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
    open_running_consult,
    sign_in,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo, demo
from load_tests.rig.figures import Scalar, emit, median, note, percentile

KILLS = 12
SETTLED_MS = 10_000
"""A worker that lived so long was healthy and is replaced without a pause."""
GIVE_UP_MS = 30_000
AROUND_MS = 500
"""What the page still holds is drawn a little longer."""
FLOWING_MS = 2_000
"""Samples must have been drawn for so long again."""
SEED = 3

WATCH = """() => {
  window.__seen = {};
  window.__drawn = [];
  let last = -1;
  const look = async () => {
    const {consumers} = await window.__consilium.stats();
    const now = Date.now();
    for (const c of consumers)
      if (c.kind === 'video' && c.framesDecoded > 0) window.__seen[c.consumer] ??= now;
    const drawn = Number(document.querySelector('[data-testid=ecg]')?.getAttribute('data-samples-drawn') ?? 0);
    if (drawn !== last) { window.__drawn.push(now); last = drawn; }
  };
  // One look at a time: statistics are dear, and a page that is busy with them is measured by its own weight.
  const again = () => look().catch(() => undefined).then(() => setTimeout(again, 50));
  if (!window.__watched) { window.__watched = true; again(); }
}"""


def workers(hub: Demo) -> list[int]:
    """Process ids of all workers, the spare included."""
    return [pid for pid, command in hub.children().items() if "media.aio.worker" in command]


def picture_back(page: Page, killed_ms: float) -> float | None:
    """When the first frame of a Consumer that was made after the kill was decoded, ms after it."""
    seen = json.loads(str(page.evaluate("() => JSON.stringify(window.__seen)")))
    after = [at - killed_ms for at in seen.values() if at > killed_ms]
    return min(after, default=None)


def waveform_back(page: Page, killed_ms: float) -> float | None:
    """When samples were drawn again after the longest silence that began around the kill, ms after it."""
    drawn = json.loads(str(page.evaluate("() => JSON.stringify(window.__drawn)")))
    silences = [
        (after - before, after - killed_ms)
        for before, after in itertools.pairwise(drawn)
        if before < killed_ms + AROUND_MS and after > killed_ms
    ]
    if not silences or drawn[-1] - killed_ms < max(silences)[1] + FLOWING_MS:
        return None
    return float(max(silences)[1])


def kill_once(hub: Demo, person: Visitor, processes: int, pause: random.Random) -> tuple[float, float]:
    """One death at a random moment; when picture and waveform were back, ms."""
    expect_moving_video(person.page)
    expect_live_ecg(person.page, 60_000)
    wait_until(person.page, lambda: len(workers(hub)) == processes, "a spare is loading", 60_000)
    person.page.wait_for_timeout(SETTLED_MS + pause.randrange(1_000))
    person.page.evaluate(WATCH)
    person.page.wait_for_timeout(500)
    serving = busiest(workers(hub), person.page)
    killed_ms = time.time() * 1000
    os.kill(serving, signal.SIGKILL)
    while True:
        person.page.wait_for_timeout(100)
        picture, waveform = picture_back(person.page, killed_ms), waveform_back(person.page, killed_ms)
        if picture is not None and waveform is not None:
            return picture, waveform
        if time.time() * 1000 - killed_ms > GIVE_UP_MS:
            raise AssertionError(f"not back within {GIVE_UP_MS} ms: picture {picture}, waveform {waveform}")


def busiest(pids: list[int], page: Page) -> int:
    """The worker that carries the consult: the one that has used most CPU time during a second."""

    def ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = {pid: ticks(pid) for pid in pids}
    page.wait_for_timeout(1_000)
    return max(pids, key=lambda pid: ticks(pid) - before[pid])


def measure(playwright: Playwright, folder: Path, count: int) -> None:
    """All kills with so many workers."""
    note(f"{KILLS} kills, {count} media worker(s)")
    os.environ["CONSILIUM_MEDIA_WORKERS"] = str(count)
    pictures, waveforms = [], []
    pause = random.Random(SEED)
    with demo(folder / f"data{count}") as hub, ExitStack() as stack:
        anna = stack.enter_context(visitor(playwright, "anna", folder / f"anna{count}", hub.url))
        sign_in(anna, first_doctor(hub))
        open_running_consult(anna)
        with_monitored_patient(anna)
        for number in range(KILLS):
            picture, waveform = kill_once(hub, anna, count + 1, pause)
            note(f"kill {number + 1}: picture {picture:.0f} ms, waveform {waveform:.0f} ms")
            pictures.append(picture)
            waveforms.append(waveform)
    params: dict[str, Scalar] = {"kills": KILLS, "workers": count, "spare": True, "browser": "Chromium"}
    for name, taken in (("picture", pictures), ("waveform", waveforms)):
        emit(f"worker_kill_{name}_back_ms_p50", median(taken), "ms", params)
        emit(f"worker_kill_{name}_back_ms_p99", percentile(taken, 99), "ms", params)


def run() -> None:
    """With one worker, which must be replaced, and with two, where the other takes over."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder, sync_playwright() as playwright:
        for count in (1, 2):
            measure(playwright, Path(folder), count)


if __name__ == "__main__":
    run()
