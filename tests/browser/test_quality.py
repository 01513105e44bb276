"""Quality and ways through: sizes that follow the tile, a firewall that is named and got round, a network that changes.

The hub and its browser stand in network namespaces of their own with two cables between them, so that a firewall rule
or a pulled cable is real and touches nobody else. Pages and sockets are brought to the browser's localhost; media take
the cables.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright, expect

from load_tests.browsers import chromium
from load_tests.browsers.chromium import Visitor, wait_until
from load_tests.browsers.steps import (
    expect_live_ecg,
    expect_moving_video,
    first_doctor,
    invite,
    join_by_link,
    open_running_consult,
    sign_in,
    with_monitored_patient,
)
from load_tests.rig import demo_process
from load_tests.rig.demo_process import Demo
from load_tests.rig.namespaces import why_not

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

SLOW_MS = 60_000
"""For what takes seconds on an idle machine."""
HUB_ADDRESS = "10.88.0.1"
CLONE_NEWNET = 0x40000000


def figures(page: Page) -> dict[str, Any]:
    """The page's own figures."""
    return dict(page.evaluate("async () => await window.__consilium.stats()"))


def widths(page: Page) -> list[int]:
    """Widths of the pictures that are received, the largest first."""
    return sorted((c["frameWidth"] for c in figures(page)["consumers"] if c["kind"] == "video"), reverse=True)


def test_a_picture_is_as_large_as_its_tile(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """A camera comes in layers: a small tile gets a small picture, an enlarged one a larger one, and back again."""
    anna = open_visitor("anna", flags=chromium.FEW_FRAMES, viewport=chromium.SMALL_DESK)
    sign_in(anna, first_doctor(hub))
    open_running_consult(anna)
    bo = open_visitor("bo", camera=False, viewport=chromium.PHONE)
    join_by_link(bo, invite(anna, "Dr Bo"))
    expect_moving_video(bo.page)

    # The room sends one size (1280); Anna's camera is in layers. How soon the largest fits is the estimate's business.
    wait_until(bo.page, lambda: widths(bo.page) == [1280, 320], "a small picture of Anna", SLOW_MS)

    bo.page.set_viewport_size(chromium.SMALL_DESK)
    bo.page.get_by_role("button", name="Enlarge 陈若水").click()
    wait_until(bo.page, lambda: widths(bo.page)[-1] > 320, "a larger picture of Anna", SLOW_MS)
    expect(bo.page.get_by_test_id("quality")).to_have_count(2)

    bo.page.set_viewport_size(chromium.PHONE)
    wait_until(bo.page, lambda: widths(bo.page) == [1280, 320], "a small picture of Anna again", SLOW_MS)
    expect_moving_video(bo.page)


# ---------------------------------------------------------------- a network of one's own


@dataclass(frozen=True)
class Network:
    """Two namespaces, the hub's and the browser's, with two cables between them, of which one is plugged in."""

    hub: int
    browser: int

    def block(self, protocol: str) -> None:
        """Drop what the browser sends to the hub's media address by one protocol."""
        run_in(self.browser, "nft", f"add rule inet wall out ip daddr {HUB_ADDRESS} meta l4proto {protocol} drop")

    def lose(self, protocol: str, percent: int) -> None:
        """Drop a share of what one protocol carries between browser and hub, both ways."""
        fate = f"meta l4proto {protocol} numgen random mod 100 < {percent} drop"
        run_in(self.browser, "nft", f"add rule inet wall out ip daddr {HUB_ADDRESS} {fate}")
        run_in(self.browser, "nft", f"add rule inet wall in ip saddr {HUB_ADDRESS} {fate}")

    def unblock(self) -> None:
        """Let everything pass."""
        for chain in ("out", "in"):
            run_in(self.browser, "nft", f"flush chain inet wall {chain}")

    def narrow(self, rate_kbit: int) -> None:
        """Let no more than this through to the browser; a fifth of a second may wait."""
        shape = f"qdisc replace dev hub{{}} root tbf rate {rate_kbit}kbit burst 16kb latency 200ms"
        for number in (1, 2):
            run_in(self.hub, "tc", *shape.format(number).split())

    def widen(self) -> None:
        """Everything comes through again."""
        for number in (1, 2):
            run_in(self.hub, "tc", "qdisc", "del", "dev", f"hub{number}", "root")

    def plug(self, number: int) -> None:
        """Put a cable in, and let the way to the hub lead through it."""
        run_in(self.browser, "ip", "link", "set", f"cable{number}", "up")
        run_in(self.browser, "ip", "route", "replace", "default", "via", f"10.88.{number}.1")

    def pull(self, number: int) -> None:
        """Pull it out; routes over it go with it."""
        run_in(self.browser, "ip", "link", "set", f"cable{number}", "down")


def run_in(holder: int, *command: str) -> None:
    subprocess.run(["nsenter", f"--net={namespace_of(holder)}", *command], check=True, capture_output=True)


def namespace_of(holder: int) -> str:
    return f"/proc/{holder}/ns/net"


@contextlib.contextmanager
def namespace() -> Iterator[int]:
    """A network namespace that lives as long as its holder, which ends with this process."""
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.stdout.readline(), "no network namespace"  # `unshare` has become `cat`
        run_in(holder.pid, "ip", "link", "set", "lo", "up")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    reason = why_not()
    if reason is not None or os.geteuid() != 0:
        pytest.skip(f"needs network namespaces: {reason or 'not root'}")
    with namespace() as hub, namespace() as browser:
        run_in(hub, "ip", "address", "add", f"{HUB_ADDRESS}/32", "dev", "lo")
        for number in (1, 2):
            far = f"hub{number}"
            cable = f"cable{number} type veth peer name {far} netns {hub}".split()
            run_in(browser, "ip", "link", "add", *cable)
            run_in(browser, "ip", "address", "add", f"10.88.{number}.2/24", "dev", f"cable{number}")
            run_in(hub, "ip", "address", "add", f"10.88.{number}.1/24", "dev", far)
            run_in(hub, "ip", "link", "set", far, "up")
        run_in(browser, "nft", "add table inet wall")
        for chain, hook in (("out", "output"), ("in", "input")):
            run_in(browser, "nft", f"add chain inet wall {chain} {{ type filter hook {hook} priority 0; }}")
        made = Network(hub, browser)
        made.plug(1)
        yield made


def enter(namespace: Path) -> None:
    """Move this thread to another network namespace: what it opens or starts from now on is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(holder: int) -> Iterator[None]:
    """This thread in a namespace for a while."""
    home = Path(f"/proc/{os.getpid()}/ns/net")
    with home.open("rb") as back:
        enter(Path(namespace_of(holder)))
        try:
            yield
        finally:
            assert ctypes.CDLL(None).setns(back.fileno(), CLONE_NEWNET) == 0


def bring_pages(network: Network, port: int) -> socket.socket:
    """The hub's pages and sockets at the browser's own localhost: only media depend on the cables.

    A browser gives camera and microphone to localhost and not to a plain address.
    """
    with inside(network.browser):
        listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        enter(Path(namespace_of(network.hub)))
        with contextlib.suppress(OSError):  # closed at the end of the tests
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def walled_hub(network: Network, hub: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("walled")
    with contextlib.ExitStack() as stack:
        with inside(network.hub), pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_process, "MEDIA_ADDRESS", HUB_ADDRESS)
            patch.setenv("CONSILIUM_MEDIA_BIND", HUB_ADDRESS)
            running = stack.enter_context(demo_process.demo(folder / "data", film_of=hub))
        stack.enter_context(bring_pages(network, int(running.url.rsplit(":", 1)[1])))
        yield running


@pytest.fixture
def anna(
    playwright: Playwright, network: Network, walled_hub: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visitor]:
    """A browser inside, signed in as a doctor."""
    browser = tmp_path / "chromium"
    browser.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{network.browser}/ns/net {chromium.CHROMIUM} "$@"\n')
    browser.chmod(0o755)
    monkeypatch.setattr(chromium, "CHROMIUM", str(browser))
    with chromium.visitor(playwright, "anna", tmp_path / "anna", walled_hub.url) as person:
        with inside(network.hub):
            doctor = first_doctor(walled_hub)
        sign_in(person, doctor)
        yield person


def test_a_blocked_port_is_named_and_consults_work_by_the_detour(network: Network, anna: Visitor) -> None:
    """UDP is blocked: the network test says which port in which direction; media take TCP by themselves."""
    page = anna.page
    network.block("udp")
    try:
        page.goto(anna.origin + "/test")
        page.get_by_test_id("nettest-start").click()
        expect(page.get_by_test_id("nettest-conclusion")).to_have_attribute(
            "data-conclusion", "detour", timeout=SLOW_MS
        )
        states = {
            step: page.get_by_test_id(f"nettest-{step}").get_attribute("data-state")
            for step in ("websocket", "udp", "tcp", "turn", "media")
        }
        assert states == {
            "websocket": "good",
            "udp": "blocked",
            "tcp": "good",
            "turn": "absent",
            "media": "good",
        }
        said = page.get_by_test_id("nettest-udp").inner_text()
        assert f"to {HUB_ADDRESS}" in said
        assert "Ask your IT to allow outgoing UDP port" in said
        with page.expect_download() as saved:
            page.get_by_test_id("nettest-download").click()
        report = json.loads(Path(saved.value.path()).read_text())
        udp = next(step for step in report["steps"] if step["id"] == "udp")
        assert (udp["state"], udp["target"]["hosts"]) == ("blocked", [HUB_ADDRESS])

        page.goto(anna.origin + "/")
        open_running_consult(anna)
        expect_moving_video(page)
        expect(page.locator("[data-testid=quality][data-via=tcp]").first).to_be_visible(timeout=SLOW_MS)
    finally:
        network.unblock()


@pytest.mark.long
def test_a_path_that_loses_a_third_of_its_packets_is_left_for_one_that_loses_none(
    network: Network, anna: Visitor
) -> None:
    """UDP that goes on losing is given up in mid-consult; picture and trace go on over TCP without anybody's doing."""
    open_running_consult(anna)
    expect_moving_video(anna.page)
    via = anna.page.locator("[data-testid=quality]").first
    expect(via).to_have_attribute("data-via", "udp", timeout=SLOW_MS)
    network.lose("udp", 35)
    try:
        expect(via).to_have_attribute("data-via", "tcp", timeout=3 * SLOW_MS)
        expect_moving_video(anna.page)
        expect_live_ecg(anna.page)
    finally:
        network.unblock()


def test_another_network_brings_the_picture_back_on_the_same_transports(network: Network, anna: Visitor) -> None:
    """The cable is pulled and another one put in: ICE restarts, nothing is rebuilt, no page is reloaded."""
    page = anna.page
    open_running_consult(anna)
    with_monitored_patient(anna)
    expect_moving_video(page)
    expect_live_ecg(page)
    # Whichever answers first carries media for a moment; the better one takes over.
    wait_until(page, lambda: figures(page)["via"] == "udp", "media over UDP", SLOW_MS)
    before = consumers(page)
    page.evaluate("window.__notReloaded = true")

    network.pull(1)
    network.plug(2)

    # More than was still on its way: it comes over the other cable.
    expect_moving_video(page)
    expect_moving_video(page)
    expect_live_ecg(page, SLOW_MS)
    expect(page.get_by_test_id("video-age")).to_have_count(0, timeout=SLOW_MS)
    assert consumers(page) == before, "media were built anew"
    assert page.evaluate("window.__notReloaded") is True
    # What we send goes on too.
    expect(page.get_by_test_id("desk-root")).to_have_attribute("data-path", "good", timeout=SLOW_MS)


def consumers(page: Page) -> set[str]:
    """Ids of what is received: others after a rebuild, the same after an ICE restart."""
    return {consumer["consumer"] for consumer in figures(page)["consumers"]}


def test_a_thin_line_keeps_the_ecg_and_says_why_the_picture_is_gone(network: Network, anna: Visitor) -> None:
    """A third of what the picture takes: it is paused in words, the ECG stays live, and all is well on a good line."""
    page = anna.page
    open_running_consult(anna)
    with_monitored_patient(anna)
    expect_moving_video(page)
    expect_live_ecg(page)
    network.narrow(rate_kbit=500)
    try:
        expect(page.get_by_test_id("video-paused").first).to_be_visible(timeout=SLOW_MS)
        expect_live_ecg(page, SLOW_MS)
    finally:
        network.widen()
    expect(page.get_by_test_id("video-paused")).to_have_count(0, timeout=2 * SLOW_MS)
    expect_moving_video(page)
