"""Log lines go to standard output, whatever a test of a whole program configured before in this process."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """structlog as it comes: its configuration is the process's, and `consilium gateway run` sets it."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)
