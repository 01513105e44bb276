"""Real Chromium for tests: one persistent profile per simulated person or display.

The flags are the ones that keep Debian's Chromium from talking to outside hosts
and give it a synthetic camera and microphone. A person with a profile can be
killed and come back in the same profile, as a browser that crashed does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Playwright, Request, expect

CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 120_000
"""For what takes a moment on an idle machine; on a busy one a page may stand still for many seconds."""
expect.set_options(timeout=WAIT_MS)  # Playwright's own is 5 s
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
MEDIA = (
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
DESKTOP = {"width": 1920, "height": 1080}
PHONE = {"width": 390, "height": 844}
SMALL_DESK = {"width": 1280, "height": 800}
FEW_FRAMES = ("--use-fake-device-for-media-stream=fps=5",)
"""A camera in layers encodes each frame three times: where several browsers share a machine, few frames are enough."""


@dataclass
class Visitor:
    """One browser profile with one page, and everything it complained about."""

    name: str
    context: BrowserContext
    page: Page
    origin: str
    foreign_requests: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)

    def kill(self) -> None:
        """End the browser process as a crash would: no unload handlers that say goodbye."""
        self.context.close()


@contextlib.contextmanager
def visitor(
    playwright: Playwright,
    name: str,
    profile: Path,
    origin: str,
    *,
    camera: bool = True,
    viewport: dict[str, int] | None = None,
    locale: str = "en-US",
    color_scheme: str = "light",
    flags: tuple[str, ...] = (),
) -> Iterator[Visitor]:
    """Open a browser with a profile folder; closes it at the end if it still runs."""
    context = playwright.chromium.launch_persistent_context(
        str(profile),
        executable_path=CHROMIUM,
        headless=True,
        args=[*QUIET, *(MEDIA if camera else MEDIA[:1]), *flags],
        viewport=viewport or DESKTOP,  # type: ignore[arg-type]
        permissions=["camera", "microphone"] if camera else [],
        locale=locale,
        color_scheme=color_scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(WAIT_MS)
    page = context.pages[0]
    person = Visitor(name, context, page, origin)

    def watch(request: Request) -> None:
        if not request.url.startswith((origin, origin.replace("http", "ws", 1), "blob:", "data:", "about:")):
            person.foreign_requests.append(request.url)

    context.on("request", watch)
    page.on("console", lambda m: person.console_errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: person.console_errors.append(str(e)))
    try:
        yield person
    finally:
        with contextlib.suppress(Exception):  # the test may have killed it already
            context.close()


def wait_until(page: Page, condition: Callable[[], bool], what: str, timeout_ms: int = WAIT_MS) -> None:
    """Poll a Python condition while the page goes on running."""
    waited = 0
    while not condition():
        if waited >= timeout_ms:
            raise AssertionError(f"did not happen within {timeout_ms} ms: {what}")
        page.wait_for_timeout(100)
        waited += 100
