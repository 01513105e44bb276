"""The browser's own bundle (parser, socket, store) in a real Chromium against the real server.

The published msgpack parser turns a ``Uint8Array`` into a map in browsers but not
in Node, so this contract can only be tested where it is kept.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright
from signaling_hub import Hub, MakeClient, MakeHub

from load_tests.browsers.chromium import CHROMIUM, QUIET
from signaling.core.messages import Produce
from signaling.core.model import Consult, Role
from tests.signaling_kit import admission, until

pytestmark = pytest.mark.browser

WEB_CLIENT = Path(__file__).parents[3] / "web_client"

ENTRY = """
import { openConsult } from "%(src)s/store/consultStore.ts";

const { store, socket } = openConsult({ getToken: () => window.takeToken() });
const failed = [];
window.page = {
  start: () => socket.start(),
  retry: () => socket.retry(),
  state: () => JSON.stringify(store.getState()),
  phases: [],
  command: async (make) => {
    try {
      return { result: await socket.command(make()) };
    } catch (error) {
      return { code: error.code ?? String(error), zh: error.zh };
    }
  },
};
store.subscribe(({ status }) => {
  if (window.page.phases.at(-1) !== status.phase) window.page.phases.push(status.phase);
});
"""

CONFIG = """
export default {
  root: %(root)s,
  logLevel: "error",
  build: { target: "es2023", minify: false, outDir: "out",
           lib: { entry: "entry.ts", formats: ["es"], fileName: () => "page.js" } },
};
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    node, vite = shutil.which("node"), WEB_CLIENT / "node_modules" / "vite" / "bin" / "vite.js"
    if node is None or not vite.exists():
        pytest.skip("node or its modules are not installed (npm ci in web_client)")
    root = tmp_path_factory.mktemp("page")
    (root / "entry.ts").write_text(ENTRY % {"src": str(WEB_CLIENT / "src")}, encoding="utf-8")
    (root / "vite.config.mjs").write_text(CONFIG % {"root": json.dumps(str(root))}, encoding="utf-8")
    subprocess.run([node, str(vite), "build", "--config", str(root / "vite.config.mjs")], check=True, timeout=100)
    html = "<!doctype html><meta charset=utf-8><title>t</title><script type=module src=page.js></script>"
    (root / "out" / "index.html").write_text(html, encoding="utf-8")
    return root / "out"


OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page() -> AsyncIterator[OpenPage]:
    """A page that is participant ``name``; its tokens come from the hub, none when ``admit`` is False."""
    if not Path(CHROMIUM).exists():
        pytest.skip("Debian's chromium package is not installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])

        async def opener(hub: Hub, name: str, *, admit: bool = True) -> Page:
            hub.origins.add(hub.url)
            page = await browser.new_page()
            await page.expose_function("takeToken", lambda: hub.token(admission(name)) if admit else "forged")
            await page.goto(f"{hub.url}/page/index.html")
            await page.wait_for_function("() => window.page !== undefined")
            await page.evaluate("() => window.page.start()")
            return page

        yield opener
        await browser.close()


async def state(page: Page) -> dict[str, Any]:
    return dict(json.loads(await page.evaluate("() => window.page.state()")))


async def phase(page: Page, wanted: str) -> None:
    await page.wait_for_function(f"() => JSON.parse(window.page.state()).status.phase === '{wanted}'")


@pytest.fixture
async def hub(make_hub: MakeHub, bundle: Path) -> Hub:
    return await make_hub(static=bundle)


async def test_values_arrive_as_they_were_sent(hub: Hub, open_page: OpenPage) -> None:
    """[WF1] Bytes are bytes, undefined is absent, null is null, large integers are exact, Chinese is Chinese."""
    page = await open_page(hub, "a")
    await phase(page, "connected")
    made = await page.evaluate(
        """() => window.page.command(() => ({
          type: "produce", transport: "t", kind: "video", source: "camera", label: "摄像头",
          rtp_parameters: {
            bytes: new Uint8Array([0, 255, 7]), buffer: new Uint8Array([1, 2]).buffer, none: null, missing: undefined,
            max: 2 ** 53 - 1, at: 1763760000123, half: 0.5, list: [1, -2],
          },
        }))"""
    )
    assert "result" in made
    command = hub.media.calls[-1]
    assert isinstance(command, Produce)
    assert command.label == "摄像头"
    assert command.rtp_parameters == {
        "bytes": b"\x00\xff\x07",
        "buffer": b"\x01\x02",
        "none": None,
        "max": 2**53 - 1,
        "at": 1763760000123,
        "half": 0.5,
        "list": [1, -2],
    }


async def test_what_cannot_be_sent_throws_in_the_page(hub: Hub, open_page: OpenPage) -> None:
    """[WF1] A Date or a Float32Array never arrives as something else."""
    page = await open_page(hub, "a")
    await phase(page, "connected")
    for value in ("new Date()", "new Float32Array(2)", "new Map()"):
        sent = await page.evaluate(
            f"""() => window.page.command(() => ({{
              type: "connect_transport", transport: "t", dtls_parameters: {{ value: {value} }} }}))"""
        )
        assert "cannot be sent" in sent["code"]
    assert hub.media.calls == []


async def test_the_store_follows_the_consult(hub: Hub, open_page: OpenPage, make_client: MakeClient) -> None:
    """[CO4] Snapshot and events folded in the browser are the server's state."""
    page = await open_page(hub, "wall")
    await phase(page, "connected")
    a = await make_client(hub, "a")
    b = await make_client(hub, "b", Role.GUEST)
    await a.ok(type="take_lead")
    await a.ok(type="open_context", patient="p1")
    await a.ok(type="turn_page", context_version=1, view={"page": "labs", "item": "k"})
    await b.ok(type="produce", transport="t", kind="video", rtp_parameters={}, source="camera")
    await b.ok(type="leave")
    revision = (await hub.state()).revision

    await page.wait_for_function(f"() => JSON.parse(window.page.state()).consult.revision === {revision}")
    assert Consult.model_validate((await state(page))["consult"]) == await hub.state()
    assert (await state(page))["status"]["fresh"] is True


async def test_refusals_reach_the_page_in_both_languages(hub: Hub, open_page: OpenPage) -> None:
    """[CO5]"""
    page = await open_page(hub, "a")
    await phase(page, "connected")
    refused = await page.evaluate(
        "() => window.page.command(() => ({type: 'turn_page', context_version: 1, view: {page: 'labs', item: ''}}))"
    )
    assert refused == {"code": "not_lead", "zh": "只有主讲人可以翻页。"}


async def test_a_cut_socket_is_resumed_as_the_same_participant(hub: Hub, open_page: OpenPage) -> None:
    """[SE3] [SE5] Without a reload, and what happened meanwhile is there."""
    page = await open_page(hub, "a")
    await phase(page, "connected")
    for connection in hub.gateway._connections.values():
        assert connection.request.transport is not None
        connection.request.transport.abort()
    await page.wait_for_function("() => window.page.phases.includes('reconnecting')")
    await phase(page, "connected")
    assert await page.evaluate("() => window.page.phases") == ["connecting", "connected", "reconnecting", "connected"]
    assert list((await hub.state()).participants) == ["a"]
    assert (await state(page))["you"] == "a"


async def test_a_second_page_takes_over(hub: Hub, open_page: OpenPage) -> None:
    """[SE5] The older page stops and says why; it does not fight."""
    old = await open_page(hub, "a")
    await phase(old, "connected")
    new = await open_page(hub, "a")
    await phase(new, "connected")
    await phase(old, "stopped")
    assert (await state(old))["status"]["goodbye"] == "replaced"
    await phase(new, "connected")


async def test_a_forged_token_is_told_as_such(hub: Hub, open_page: OpenPage) -> None:
    """[SE7] The page keeps trying for a minute (a token may just have expired) and knows why it fails."""
    page = await open_page(hub, "a", admit=False)
    await page.wait_for_function("() => JSON.parse(window.page.state()).status.refusal !== null")
    assert (await state(page))["status"]["refusal"]["code"] == "token_invalid"
    await until(lambda: hub.gateway.counters["refused_connects"] > 1)
