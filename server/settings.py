"""Settings: one frozen model, read once from the environment, checked before anything starts.

Every name is ``CONSILIUM_`` plus the field in capitals; an unknown name with that
prefix is an error, because a misspelt security setting must not pass silently.
Lists are separated by commas.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from media.core.ortc_transport import PROTOCOLS
from server.exits import Exit, StartError
from server.storage.database import DatabaseUrlError, parse_url
from server.tls import AuthorityFiles
from server.turn_urls import parse_turn_url

PREFIX = "CONSILIUM_"
MOST_WORKERS_UNASKED = 8
"""Each takes memory and a port that firewalls must open; who has more people than eight workers carry says so."""
Port = Annotated[int, Field(ge=0, le=65_535)]
Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(StartError):
    """A setting cannot be used."""

    def __init__(self, sentence: str) -> None:
        super().__init__(Exit.SETTINGS, sentence)


def default_workers() -> int:
    """Media workers where nobody says how many: a container or a service may have fewer cores than the machine."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS_UNASKED)


class Settings(BaseSettings):
    """What an administrator may choose."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine needs TLS (cameras, workers and cookies need it)."""
    port: Port = 8440
    public_origins: Names = ()
    """Origins that browsers use, e.g. ``https://hub.hospital.cn``. Empty: derived from host and port."""
    data_dir: Path = Path("data")
    """Database, keys and audit anchors; made with mode 0700."""
    waveform_dir: Path | None = None
    """Archived waveforms; empty: ``waveforms`` in ``data_dir``. Some 15 MB for an hour of twelve leads."""
    casepack_dir: Path | None = None
    """Folder of the hospital's own completeness tables (``*.toml``); one of a specialty that we have replaces ours."""
    database_url: str = ""
    """Empty: a SQLite file in ``data_dir``."""
    redis_url: str = ""
    """Empty: one node, everything in memory."""
    media_addresses: Names = ("127.0.0.1",)
    """IP addresses that the media workers offer to browsers, the best first; behind NAT the public one."""
    media_bind: str = ""
    """Address the media ports are bound to. Empty: all, or only this machine's where nothing else is offered."""
    media_protocols: Names = ("udp", "tcp")
    """What the media ports listen on and offer; TCP is for those whose firewall blocks UDP."""
    media_port: Port = 8441
    """The UDP and TCP port of the first media worker, the next ones follow on it; 0 picks free ones."""
    media_workers: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=default_workers)
    """Media worker processes, each on a port and a core of its own. Unset: one for each usable core, up to 8."""
    media_full: Annotated[float, Field(gt=0, le=4)] = 0.85
    """Share of a core above which a worker gets no further consult."""
    media_crowded: Annotated[float, Field(gt=0, le=4)] = 0.95
    """Share of a core above which nobody joins a consult on that worker; those who are there stay."""
    media_loop_lag_ms: Annotated[float, Field(ge=1, le=10_000)] = 100
    """Usual delay of a worker's event loop that counts as much as ``media_full``."""
    media_first: bool = True
    """On a core that both want media workers go before the server: a picture that waits is late, a page is not."""
    forward: Literal["auto", "c", "python"] = "auto"
    """How media packets are sent on: by the C function, in Python, or by what there is."""
    turn_urls: Names = ()
    """TURN servers for those who reach no media port, e.g. ``turns:hub.hospital.cn:443?transport=tcp``."""
    turn_secret: SecretStr | None = None
    """Shared with coturn (`consilium turn config`). Empty: that in ``turn_secret_file``."""
    turn_secret_file: Path | None = None
    """Empty: ``turn-secret`` in ``data_dir``, made at the first start."""
    lock_keys: SecretStr | None = None
    """Content of the file of keys that seal what the lock keeps here. Empty: those in ``lock_keys_file``."""
    lock_keys_file: Path | None = None
    """Empty: ``lock-files.keys`` in ``data_dir``. Made at the first start, mode 0600; away from the data it protects
    them where the disk or a copy of it is lost."""
    turn_lifetime_s: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    """How long a participant's TURN credentials open new connections; those that are open go on."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    trust_port: Port | None = None
    """Plain HTTP port of the page that installs the local authority's certificate; None for no such page."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    """Where ``/metrics`` listens, without sign-in; None for nowhere."""
    session_idle_s: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    """A signed-in browser that asks for nothing this long is signed out (G3, C34)."""
    session_length_s: Annotated[int, Field(ge=300, le=7 * 86_400)] = 12 * 3_600
    """A session ends after this however busy it is: one shift."""
    drain_s: Annotated[int, Field(ge=0, le=6 * 3_600)] = 10
    """How long a stopping server lets running consults go on; 14400 (4 h) where upgrades must not disturb anybody."""
    demo: bool = False
    """Sample logins on the sign-in page and walls without pairing. Never with real patients."""
    log_json: bool = False

    @field_validator("public_origins", "media_addresses", "media_protocols", "turn_urls", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("media_addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one IP address")
        return tuple(_reachable(address) for address in value)

    @field_validator("media_bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value.strip("[]"))) if value else value
        except ValueError:
            raise ValueError(f"{value} is not an IP address") from None

    @field_validator("media_protocols")
    @classmethod
    def _protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(PROTOCOLS):
            raise ValueError("name udp, tcp or both")
        return value

    @field_validator("turn_urls")
    @classmethod
    def _turn(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parse_turn_url(url)
        return value

    @field_validator("public_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin} is not an origin such as https://hub.hospital.cn")
            if parts.scheme == "http" and not is_local(parts.hostname):
                raise ValueError(f"{origin} would be plain HTTP: cameras do not work there; use https")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        if value:
            parse_url(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together")
        if self.tls_cert_file is None and not is_local(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines and needs TLS: give tls_cert_file and "
                "tls_key_file, or run `consilium ca` to make a local certificate authority"
            )
        if self.media_crowded < self.media_full:
            raise ValueError("media_crowded must not be below media_full")
        if self.media_port and self.media_port + self.media_workers - 1 > 65_535:
            raise ValueError(
                f"media_workers {self.media_workers} from media_port {self.media_port} on goes beyond port 65535"
            )
        if self.demo and not is_local(self.host) and self.tls_cert_file is None:
            raise ValueError("demo mode on another address needs TLS too")
        return self

    @property
    def secure(self) -> bool:
        """Whether this process ends TLS itself."""
        return self.tls_cert_file is not None

    @property
    def media_ports(self) -> tuple[int, ...]:
        """Port of each media worker; 0 is any."""
        return tuple(self.media_port + index if self.media_port else 0 for index in range(self.media_workers))

    @property
    def origins(self) -> frozenset[str]:
        """Every origin that a page of ours may have."""
        if self.public_origins:
            return frozenset(self.public_origins)
        scheme = "https" if self.secure else "http"
        hosts = {"localhost", "127.0.0.1", "[::1]"} if is_local(self.host) else {_bracketed(self.host)}
        default_port = 443 if self.secure else 80
        suffix = "" if self.port == default_port else f":{self.port}"
        return frozenset(f"{scheme}://{host}{suffix}" for host in hosts)

    @property
    def main_origin(self) -> str:
        """The origin written into links."""
        if self.public_origins:
            return self.public_origins[0]
        return next((origin for origin in self.origins if "//localhost" in origin), min(self.origins))

    @property
    def waveforms(self) -> Path:
        """Folder of archived waveforms."""
        return self.waveform_dir or self.data_dir / "waveforms"

    @property
    def database(self) -> str:
        """Database URL with the default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'consilium.db').absolute()}"


def load_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the environment; ``overrides`` (command line) win.

    Raises:
        SettingsError: the first problem, as a sentence that names the setting, never its value if it may be secret.
    """
    names = os.environ if environment is None else environment
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a setting; known are {', '.join(sorted(known))}")
    given = {name: value for name in Settings.model_fields if (value := names.get(f"{PREFIX}{name.upper()}"))}
    values = {**given, **{name: value for name, value in overrides.items() if value is not None}}
    try:
        return Settings(**{**_own_certificate(values), **values})
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{PREFIX}{place.upper()}: {text}" if place else text) from None


def _own_certificate(values: Mapping[str, Any]) -> dict[str, Path]:
    """What ``consilium ca`` has made, for a host that needs TLS and was given no certificate."""
    files = AuthorityFiles(folder=Path(values.get("data_dir", Settings.model_fields["data_dir"].default)) / "tls")
    if is_local(str(values.get("host", "localhost"))) or "tls_cert_file" in values or not files.cert.exists():
        return {}
    return {"tls_cert_file": files.cert, "tls_key_file": files.key}


def is_local(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _reachable(text: str) -> str:
    """An address that a browser can send to, without brackets."""
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"{text} is not an IP address") from None
    meant = getattr(address, "ipv4_mapped", None) or address
    if meant.is_unspecified:
        raise ValueError(f"{text} stands for all addresses; browsers need one that they reach this machine by")
    if meant.is_multicast or meant == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError(f"{text} is a group of machines; browsers need one that they reach this machine by")
    return str(address)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


__all__ = ["DatabaseUrlError", "Settings", "SettingsError", "is_local", "load_settings"]
