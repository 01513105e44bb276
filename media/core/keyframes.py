"""When to ask a publisher for a key frame.

Every viewer that joins, resumes or loses its picture needs one, but each costs the publisher a
burst of bits, and a PLI per viewer becomes a storm. So requests are merged per Producer: one
PLI at once, then none for ``MIN_INTERVAL_MS``; demand that comes in between is met at the end of the
interval unless a key frame has begun meanwhile. A PLI that brings nothing is repeated.

Who still waits is known to the caller; finding key frames in payloads is ``codecs``.
"""

from typing import Final

MIN_INTERVAL_MS: Final = 300
"""Below this libwebrtc drops requests itself; above it a second joiner waits visibly."""
RETRY_MS: Final = 1_000
"""A lost PLI, or an encoder that was not ready. A source that cannot answer (a file) sends its own in time."""


class KeyframeRequests:
    """Merged demand for key frames of one Producer."""

    def __init__(self) -> None:
        self._asked_ms: int | None = None
        self._wanted = False
        self._too_early = False

    @property
    def wanted(self) -> bool:
        """Somebody waits; ``due`` must be polled."""
        return self._wanted

    def want(self, now_ms: int) -> bool:
        """A viewer needs a key frame. True: send a PLI now."""
        self._wanted = True
        if self._asked_ms is not None and now_ms - self._asked_ms < MIN_INTERVAL_MS:
            self._too_early = True
            return False
        self._asked_ms = now_ms
        return True

    def due(self, now_ms: int) -> bool:
        """Whether demand that is still open calls for another PLI now."""
        if not self._wanted or self._asked_ms is None:
            return False
        if now_ms - self._asked_ms < (MIN_INTERVAL_MS if self._too_early else RETRY_MS):
            return False
        self._asked_ms = now_ms
        self._too_early = False
        return True

    def arrived(self) -> None:
        """A key frame has begun; every viewer that waited is served by it."""
        self._wanted = False
        self._too_early = False
