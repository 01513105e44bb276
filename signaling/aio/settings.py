"""Times and limits of the consult service; of sockets they are in ``gateway.py`` and ``session.py``."""

from dataclasses import dataclass, field

from signaling.aio.nodes import NodeTimes


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """Times and limits of the consult service."""

    grace_s: float = 60.0
    """How long a participant without a socket stays one (ARCHITECTURE section 8)."""
    beat_s: float = 2.0
    """A clinical view blanks after 5 s: one beat may be lost."""
    commit_tries: int = 3
    catch_up_events: int = 200
    """What more than this was missed is replaced by a snapshot."""
    media_timeout_s: float = 10.0
    store_timeout_s: float = 5.0
    views_hz: float = 20.0
    """A page says what it looks at when that has settled; forty tiles at once after a layout change."""
    views_burst: int = 80
    strip_s: float = 60.0
    """How long the archive may take for a strip: 10 s of it are still to come, and a repair may be late."""
    retry_s: float = 1.0
    """Pause before what must be stored is tried again."""
    sole_node: bool = True
    """No other node serves these consults: whoever has no socket here has none. [SE8]"""
    nodes: NodeTimes = field(default_factory=NodeTimes)
    """Where others do: how each finds out which of them is dead."""


DEFAULTS = ServiceSettings()
