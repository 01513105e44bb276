"""One running demo for all browser tests, and a way to open browsers on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, sync_playwright

from load_tests.browsers.chromium import CHROMIUM, Visitor, visitor
from load_tests.rig.demo_process import Demo, demo


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if not Path(CHROMIUM).exists():
        pytest.skip("Debian's chromium package is not installed")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("hub") / "data") as running:
        yield running


@pytest.fixture
def open_visitor(playwright: Playwright, hub: Demo, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """``open_visitor(name, **options)``; the same name comes back in the same profile."""
    with contextlib.ExitStack() as stack:

        def opener(name: str, **options: object) -> Visitor:
            return stack.enter_context(visitor(playwright, name, tmp_path / name, hub.url, **options))  # type: ignore[arg-type]

        yield opener
