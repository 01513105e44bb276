"""What the routes need, in one frozen bag under one application key."""

from dataclasses import dataclass, field

from aiohttp import web

from server.clock import NowMs
from server.identity.aio.devices import Devices
from server.identity.aio.invites import Invites
from server.identity.aio.sessions import Sessions
from server.identity.aio.throttle import Attempts
from server.identity.aio.tokens import ConsultTokens
from server.identity.aio.walls import Walls
from server.live import LiveSessions
from server.settings import Settings
from server.storage.database import Database
from signaling.core.arrivals import Arrivals
from signaling.core.ports import ConsultStore


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoLogin:
    """A sample login that the sign-in page offers."""

    login: str
    password: str
    name: str
    role: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoInfo:
    """What only a demo gives away. ``station`` is the one whose screens need no pairing code."""

    logins: tuple[DemoLogin, ...]
    station: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """The parts of the server behind the HTTP API."""

    settings: Settings
    now_ms: NowMs
    database: Database
    store: ConsultStore
    sessions: Sessions
    invites: Invites
    walls: Walls
    devices: Devices
    tokens: ConsultTokens
    live: LiveSessions
    attempts: Attempts
    demo: DemoInfo | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)
    state: "ServerState" = field(default_factory=lambda: ServerState())


@dataclass(slots=True)
class ServerState:
    """What the process is doing now; `lifecycle.py` writes it, ``/readyz`` reads it."""

    ready: bool = False
    stopping: bool = False


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
