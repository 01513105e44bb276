"""[W42] Every sample that was drawn in a real browser, compared with the file that the device plays.

The demo as it is, but for a build of the client that notes each vertex it strokes and reads time and value back from
its pixels (`drawn.ts`), and a monitor whose messages may be lost, doubled, changed over or fall silent
(`ecg_device`). What is drawn is compared with the record as the reference reader has it, sample for sample: of that
lead, of that microsecond, of that patient. One page, loaded once, lives through everything.

Loss on the last leg is made in the page, where messages come out of the data channel: seeded, and the same everywhere.
There too the channels are held shut at first, so that the page begins on its WebSocket and moves over.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import CDPSession, Page, Playwright, WebSocket, expect

from load_tests.browsers.chromium import Visitor, visitor, wait_until
from load_tests.browsers.steps import (
    MONITORED_PATIENT,
    ecg_said,
    expect_growth,
    first_doctor,
    open_patient,
    open_running_consult,
    samples_drawn,
    sign_in,
    watch_ecg,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo, demo
from media.core.waveform import Flag
from media.core.waveform.frame import parse_frame
from tests.browser import ecg_device
from tests.browser.ecg_device import Orders, read_log

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CLIENT = Path(__file__).parents[2] / "web_client"
PTB = Path(__file__).parents[3] / "shared" / "data" / "ecg" / "ptb" / "s0010_re"
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "vx", "vy", "vz")
RATE_HZ = 1000
LOOK_S = 2.5

WIRE = """
// Fate of messages on the last leg: `wire.lose`, `wire.double`, `wire.swap`, each a share.
window.wire = {lose: 0, double: 0, swap: 0, lost: 0, doubled: 0, swapped: 0, newest: 0, state: 12345};
// Frames `dark[0]` to `dark[1]` never come, however often they are sent; while `shut`, no channel is open.
Object.assign(wire, {dark: [1, 0], shut: true, waiting: []});
wire.open = () => { wire.shut = false; for (const tell of wire.waiting.splice(0)) tell(); };
const isDark = (seq) => wire.dark[0] <= seq && seq <= wire.dark[1];
const holdsDark = (data) => {
  const view = new DataView(data);
  const seq = view.getUint32(8, true);
  wire.newest = Math.max(wire.newest, seq);
  return isDark(seq) || ((view.getUint8(3) & 32) !== 0 && isDark(seq - 1));
};
const ready = Object.getOwnPropertyDescriptor(RTCDataChannel.prototype, 'readyState');
Object.defineProperty(RTCDataChannel.prototype, 'readyState', {
  ...ready, get() { return wire.shut ? 'connecting' : ready.get.call(this); },
});
const next = () => {
  wire.state = (Math.imul(wire.state, 1664525) + 1013904223) >>> 0;
  return wire.state / 2 ** 32;
};
const listen = RTCDataChannel.prototype.addEventListener;
RTCDataChannel.prototype.addEventListener = function (type, listener, ...more) {
  if (type === 'open') {
    const told = (event) => {
      if (wire.shut) wire.waiting.push(() => listener.call(this, event));
      else listener.call(this, event);
    };
    return listen.call(this, type, told, ...more);
  }
  if (type !== 'message') return listen.call(this, type, listener, ...more);
  let held = null;
  const fated = (event) => {
    if (wire.shut) return;
    if (this.label !== 'ecg') return listener.call(this, event);
    if (holdsDark(event.data)) return;
    if (next() < wire.lose) { wire.lost += 1; return; }
    if (held === null && next() < wire.swap) { wire.swapped += 1; held = event; return; }
    // Each listener gets bytes of its own: it may transfer them away.
    const copy = (e) => new MessageEvent('message', {data: e.data.slice(0)});
    if (next() < wire.double) { wire.doubled += 1; listener.call(this, copy(event)); }
    listener.call(this, event);
    if (held !== null) { const late = held; held = null; listener.call(this, late); }
  };
  return listen.call(this, type, fated, ...more);
};
"""

TAKE = """async () => {
  const view = document.querySelector('[data-testid=ecg]');
  if (!view?.ecgDrawn) return null;
  const drawn = await view.ecgDrawn();
  const leads = [...new Set(drawn.map(d => d.lead))];
  const row = new Map(leads.map((lead, i) => [lead, i]));
  const numbers = new Float64Array(drawn.length * 4);
  drawn.forEach((d, i) => numbers.set([row.get(d.lead), d.us, d.value, d.context], 4 * i));
  const bytes = new Uint8Array(numbers.buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return {leads, data: btoa(text)};
}"""


class Sent:
    """What the device made: where each of its samples is in the record, by time.

    A frame's place in the record is found by what is in it, and must be the one after the frame before.
    """

    KEY_ROWS, KEY_SAMPLES = (0, 6, 7), 8

    def __init__(self, folder: Path, record: NDArray[np.int64]) -> None:
        self.folder, self.record = folder, record
        self.starts: list[float] = []
        self.frames: list[Any] = []
        self.places: list[int] = []
        self.sessions: list[int] = []
        """First frame of each: within one, time rises."""
        keyed = record[list(self.KEY_ROWS)].astype(np.int16)
        self._places: dict[bytes, list[int]] = {}
        for place in range(record.shape[1] - self.KEY_SAMPLES):
            self._places.setdefault(keyed[:, place : place + self.KEY_SAMPLES].tobytes(), []).append(place)

    def read(self) -> None:
        """Take what was made since."""
        for data in read_log(self.folder)[len(self.frames) :]:
            frame = parse_frame(data)
            if frame.flags & Flag.SESSION_RESTART:
                self.sessions.append(len(self.frames))
            self.places.append(self._place(frame))
            self.frames.append(frame)
            self.starts.append(frame.t0_us)

    def _place(self, frame: Any) -> int:
        rows = [frame.leads.index(row) for row in self.KEY_ROWS]
        for place in self._places.get(frame.samples[rows, : self.KEY_SAMPLES].tobytes(), []):
            if np.array_equal(self.record[list(frame.leads), place : place + frame.n], frame.samples):
                return place
        raise AssertionError("the device sent what is not in the file")

    def compare(self, lead: str, us: NDArray[np.float64], value: Any, context: Any) -> None:
        """What was drawn of one lead is what the file has at those moments, under the context it was sent in.

        A device that puts its clock right, or comes back as another process, may say that a session began before the
        end of the one before: a moment with two samples, both of them drawn, one after the other.
        """
        row = LEADS.index(lead)
        t0_us, places = np.array(self.starts), np.array(self.places)
        there, right = np.zeros(len(us), dtype=bool), np.zeros(len(us), dtype=bool)
        for first, stop in pairwise([*self.sessions, len(self.frames)]):
            at = first + np.searchsorted(t0_us[first:stop], us + 500) - 1
            within = np.flatnonzero(at >= first)
            at = at[within]
            offset = np.round((us[within] - t0_us[at]) * RATE_HZ / 1e6).astype(np.int64)
            sampled = offset < np.array([frame.n for frame in self.frames])[at]
            sampled &= np.array([row in frame.leads for frame in self.frames])[at]
            sampled &= np.abs(t0_us[at] + offset * 1e6 / RATE_HZ - us[within]) < 500
            within, at, offset = within[sampled], at[sampled], offset[sampled]
            same = self.record[row, places[at] + offset] == value[within]
            same &= np.array([frame.context_version for frame in self.frames])[at] == context[within]
            there[within] = True
            right[within] |= same
        assert there.all(), f"{lead} drawn at {us[~there][:3]}, when the device had no sample of it"
        assert right.all(), f"{lead} at {us[~right]}: {value[~right]} drawn under {np.unique(context[~right])}"

    def in_order(self) -> None:
        """Within a session the record is played as it is, sample after sample."""
        for k in range(1, len(self.frames)):
            before, frame = self.frames[k - 1], self.frames[k]
            if frame.seq == before.seq + 1 and frame.first_sample == before.end_sample:
                assert self.places[k] == self.places[k - 1] + before.n

    def times(self, lead: str, since_us: float, until_us: float) -> set[int]:
        """Each sample of a lead that was taken between two moments, in whole samples."""
        row = LEADS.index(lead)
        return {
            tick
            for frame in self.frames
            if frame.t0_us >= since_us and frame.t0_us + frame.n * 1000 <= until_us and row in frame.leads
            for tick in (round(frame.t0_us / 1000) + k for k in range(frame.n))
        }


class Bed:
    """The page, the device and what both have done."""

    def __init__(self, hub: Demo, doctor: Visitor, folder: Path, sent: Sent) -> None:
        self.hub, self.doctor, self.page, self.folder, self.sent = hub, doctor, doctor.page, folder, sent
        self.drawn: dict[str, set[int]] = {}
        """Lead -> moments drawn, in whole samples."""
        self.checked = 0
        self.asked: list[str] = []
        """Paths asked for over HTTP."""
        self.sockets: list[WebSocket] = []
        """Of waveforms, in the order they were opened."""
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda ws: self.sockets.append(ws) if ws.url.endswith("/ws/waveforms") else None)

    def order(self, **orders: Any) -> None:
        Orders(**orders).write(self.folder)

    def wire(self, **shares: float) -> None:
        self.page.evaluate("shares => Object.assign(wire, {lose: 0, double: 0, swap: 0}, shares)", shares)

    def check(self) -> None:
        """[W1] [W3] [W10] Everything drawn since the last look is in the file, at that time, of that lead."""
        took = self.page.evaluate(TAKE)
        self.sent.read()
        if took is None:
            return
        numbers = np.frombuffer(base64.b64decode(took["data"])).reshape(-1, 4)
        for row, lead in enumerate(took["leads"]):
            _, us, value, context = numbers[numbers[:, 0] == row].T
            self.sent.compare(lead, us, value, context)
            ticks = np.unique(np.round(us / 1000)).astype(np.int64).tolist()
            self.drawn.setdefault(lead, set()).update(ticks)
            self.checked += len(ticks)

    def look(self, seconds: float = LOOK_S) -> None:
        """Let it run and compare meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.page.wait_for_timeout(400)
            self.check()

    def live(self) -> None:
        """LIVE, and the pen moves; everything drawn meanwhile is compared."""
        view = self.page.get_by_test_id("ecg").first

        def there() -> bool:
            self.check()
            return view.get_attribute("data-state") == "LIVE"

        wait_until(self.page, there, "the trace is LIVE")
        expect_growth(self.page, samples_drawn, 500, "five hundred more samples")

    def at_now(self) -> None:
        """What is drawn is of this second."""
        read = "() => Number(document.querySelector('[data-testid=ecg]').dataset.ageMs || 9999)"
        wait_until(self.page, lambda: self.page.evaluate(read) <= 1000, "a trace of this second")

    def newest_us(self) -> float:
        self.sent.read()
        return float(self.sent.starts[-1])

    def all_drawn(self, lead: str, since_us: float, until_us: float) -> None:
        """[W4] Wait until each sample that the device had in this time is on screen or was."""

        def missing() -> set[int]:
            self.check()
            return self.sent.times(lead, since_us, until_us) - self.drawn.get(lead, set())

        wait_until(self.page, lambda: not missing(), f"every sample of {lead}")

    def grey(self) -> NDArray[np.int64]:
        """The pane as it is seen, brightness."""
        image = Image.open(io.BytesIO(self.page.screenshot(clip=self.clip)))  # type: ignore[arg-type]
        return np.asarray(image.convert("L")).astype(np.int64)

    @property
    def clip(self) -> dict[str, float]:
        """Where the strips were when this was first asked, without the bands of text above and below."""
        if not hasattr(self, "_clip"):
            box = self.page.get_by_test_id("ecg").first.bounding_box()
            assert box is not None
            edge = 60
            self._clip = {
                "x": box["x"], "y": box["y"] + edge, "width": box["width"], "height": box["height"] - 2 * edge
            }  # fmt: skip
        return self._clip


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the web client that notes what it draws."""
    node, vite = shutil.which("node"), CLIENT / "node_modules" / "vite" / "bin" / "vite.js"
    if node is None or not vite.exists():
        pytest.skip("the web client's modules are not installed")
    out = tmp_path_factory.mktemp("hooked")
    build = [node, str(vite), "build", "--outDir", str(out), "--emptyOutDir", "--logLevel", "error"]
    subprocess.run(build, cwd=CLIENT, check=True, timeout=300, env=os.environ | {"CONSILIUM_ECG_TEST_HOOK": "1"})
    return out


def the_record() -> tuple[str, NDArray[np.int64]]:
    """``(path for the device, samples as the reference reader has them)``: PTB where it is there, else pydicom's."""
    if PTB.with_suffix(".hea").exists():
        wfdb = pytest.importorskip("wfdb")
        record = wfdb.rdrecord(str(PTB), physical=False)
        rows = [record.sig_name.index(lead.lower()) for lead in LEADS]
        return str(PTB.with_suffix(".hea")), record.d_signal[:, rows].T
    import pydicom
    from pydicom.data import get_testdata_file

    group = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm", download=False))).WaveformSequence[0]
    return "", np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).T.astype(np.int64)


@pytest.fixture
def bed(hooked: Path, playwright: Playwright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    folder = tmp_path / "device"
    folder.mkdir()
    path, record = the_record()
    (folder / ecg_device.RECORD).write_text(path)
    Orders().write(folder)
    monkeypatch.setenv(ecg_device.FOLDER, str(folder))
    monkeypatch.setenv("TEST_WEB_ROOT", str(hooked))
    with (
        demo(tmp_path / "data", module="tests.browser.ecg_demo") as hub,
        visitor(playwright, "anna", tmp_path / "anna", hub.url) as anna,
    ):
        anna.page.add_init_script(WIRE)
        yield Bed(hub, anna, folder, Sent(folder, record))


def another_patient(page: Page) -> str:
    """Somebody of the consult who is not monitored."""
    page.get_by_test_id("btn-open-patient").click()
    choices = page.locator("[data-testid^=patient-choice-]")
    expect(choices.first).to_be_visible()
    names = [str(choice.get_attribute("data-testid")).removeprefix("patient-choice-") for choice in choices.all()]
    page.keyboard.press("Escape")
    return next(name for name in names if name != MONITORED_PATIENT)


def test_every_sample_drawn_is_the_file_s(bed: Bed) -> None:
    """[W1] [W2] [W3] [W4] [W5] [W6] [W10] [W12] [W13] [W14] [W24] [W42]"""
    steps: list[Callable[[Bed], None]] = [
        no_data_channel_opens, the_data_channels_open, undisturbed, the_relay_has_no_more,
        last_leg_loses_doubles_and_swaps, device_loses_doubles_and_swaps, a_lead_falls_off, the_page_hangs,
        the_tab_sleeps, the_device_restarts, the_worker_is_killed, the_patient_changes,
    ]  # fmt: skip
    sign_in(bed.doctor, first_doctor(bed.hub))
    open_running_consult(bed.doctor)
    with_monitored_patient(bed.doctor)
    bed.live()
    for step in steps:
        began = time.monotonic()
        before = bed.checked
        step(bed)
        print(f"{step.__name__}: {time.monotonic() - began:.1f} s, {bed.checked - before} samples compared")
    assert bed.checked > 20_000
    bed.sent.in_order()
    assert bed.page.evaluate("performance.getEntriesByType('navigation').length") == 1


def no_data_channel_opens(bed: Bed) -> None:
    """All of it comes by the WebSocket."""
    assert [ws.is_closed() for ws in bed.sockets] == [False]
    since_us = bed.newest_us()
    bed.look(1.5)
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)


def the_data_channels_open(bed: Bed) -> None:
    """Over to them: nothing is lost on the way, and the WebSocket goes when they have proved themselves."""
    since_us = bed.newest_us()
    bed.page.evaluate("wire.open()")
    wait_until(bed.page, bed.sockets[0].is_closed, "the WebSocket let go")
    bed.live()
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)
    assert len(bed.sockets) == 1


def the_relay_has_no_more(bed: Bed) -> None:
    """[W4] What it is asked for in vain comes from the store, each sample in its place."""
    since_us = bed.newest_us()
    first = bed.page.evaluate("() => { wire.dark = [wire.newest + 2, wire.newest + 9]; return wire.dark[0]; }")
    wait_until(bed.page, lambda: bed.newest_us() >= since_us + 1_500_000, "the dark is over")
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)
    ranges = [map(int, found) for url in bed.asked for found in re.findall(r"first=(\d+)&last=(\d+)", url)]
    asked = {seq for begin, end in ranges for seq in range(begin, end + 1)}
    assert asked >= {*range(first, first + 8)}, "each of them"


def undisturbed(bed: Bed) -> None:
    """Nothing happens: all of lead II is drawn."""
    since_us = bed.newest_us()
    bed.look()
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)


def last_leg_loses_doubles_and_swaps(bed: Bed) -> None:
    """All of it is recovered, each sample in its place."""
    since_us = bed.newest_us()
    bed.wire(lose=0.2, double=0.3, swap=0.3)
    bed.look(3.0)
    wait_until(
        bed.page,
        lambda: min(bed.page.evaluate("[wire.lost, wire.doubled, wire.swapped]")) > 2,
        "the last leg did lose, double and swap",
    )
    bed.wire()
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)


def device_loses_doubles_and_swaps(bed: Bed) -> None:
    """[WF18] The relay asks the device for what it lost on the way: all of it is there in the end, in its place."""
    since_us = bed.newest_us()
    bed.order(lose=0.3, double=True, swap=True)
    bed.look(3.0)
    bed.order()
    bed.live()
    bed.all_drawn("II", since_us, bed.newest_us() - 500_000)


def a_lead_falls_off(bed: Bed) -> None:
    """V1 of the rhythm columns is blank and the others go on. The comparison refuses any sample of it."""
    bed.order(lead_off=1 << LEADS.index("II"))
    bed.look()
    bed.sent.read()
    off = [frame for frame in bed.sent.frames if frame.lead_off_mask]
    assert off, "the device said so"
    bed.order()
    bed.live()
    silent = {round(frame.t0_us / 1000) + k for frame in off for k in range(frame.n)}
    assert not silent & bed.drawn["II"]


def the_page_hangs(bed: Bed) -> None:
    """The main thread stands still for two seconds: late frames are old, not live, and then it is at now again."""
    bed.page.evaluate("() => { const end = performance.now() + 2000; while (performance.now() < end); }")
    bed.live()
    bed.at_now()


def the_tab_sleeps(bed: Bed) -> None:
    """Frozen, it draws nothing; woken, it begins as LOST and then shows now, not what it slept through."""
    session: CDPSession = bed.page.context.new_cdp_session(bed.page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    slept_us, until = bed.newest_us(), time.monotonic() + 60
    while bed.newest_us() - slept_us <= 2_500_000:  # the page must not be asked meanwhile
        assert time.monotonic() < until, "the device has stopped"
        time.sleep(0.1)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    session.detach()
    bed.live()
    bed.at_now()


def the_device_restarts(bed: Bed) -> None:
    """It falls dead and comes back as another process: another session, nothing of the old one joined to it."""
    made = len(bed.sent.frames)
    watch_ecg(bed.page)
    bed.order(life=1)

    def gone() -> bool:
        bed.check()
        return any(one["state"] != "LIVE" for one in ecg_said(bed.page))

    wait_until(bed.page, gone, "the trace ends")
    bed.live()
    bed.sent.read()
    assert any(frame.seq == 0 for frame in bed.sent.frames[made:])


def the_worker_is_killed(bed: Bed) -> None:
    """The relay's memory is gone; what nobody has any more is a gap."""
    pid = bed.hub.worker_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(bed.page, lambda: bed.hub.worker_pid() not in (None, pid), "another worker")
    bed.look(2.0)
    bed.live()


def the_patient_changes(bed: Bed) -> None:
    """[W24] No pixel of the old trace is left under the new name; none of it comes back with the old patient."""
    ink = bed.grey() < 110
    assert ink.sum() > 500, "there was a trace"
    open_patient(bed.doctor, another_patient(bed.page))
    expect(bed.page.locator("[data-testid=ecg] canvas")).to_have_count(0)
    # What says for a moment that the page is out of sync, as it may on a busy machine, has ink of its own.
    wait_until(bed.page, lambda: (ink & (bed.grey() < 110)).sum() < 0.01 * ink.sum(), "no ink of the old trace")
    before = max(frame.context_version for frame in bed.sent.frames)
    with_monitored_patient(bed.doctor)
    bed.live()
    bed.sent.read()
    assert bed.sent.frames[-1].context_version > before
