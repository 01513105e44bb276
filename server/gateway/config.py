"""The gateway's folder and its two files: ``gateway.toml`` (what runs inside) and ``policy.toml`` (what may cross).

Everything a gateway is lies in one folder with mode 0700: who it is (`identity.py`), the journal with its keys, the
policy with its secret. Adapters are told apart by ``type``; what each of them needs is checked by
`server.gateway.adapters`.
"""

import fcntl
import os
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.exits import Exit, StartError
from server.gateway.core.policy import Policy, PolicyInvalid, parse_policy
from server.gateway.journal import JournalLimits
from server.gateway.sealing import SealingKeys, load_keys, read_private, write_private

KEYS_VARIABLE = "CONSILIUM_GATEWAY_KEYS"
"""Content of ``journal.keys``, for hospitals that keep keys outside the machine's disk."""
SECRET_BYTES = 32
DEFAULTS = JournalLimits()


@dataclass(frozen=True, slots=True)
class Folder:
    """Where things are."""

    path: Path

    @property
    def identity(self) -> Path:
        """Who this gateway is, and its hub; mode 0600."""
        return self.path / "identity.json"

    @property
    def key(self) -> Path:
        """The private key; mode 0600."""
        return self.path / "gateway.key"

    @property
    def authority(self) -> Path:
        """The only authority this gateway trusts its hub's certificate from, if one was given."""
        return self.path / "hub-ca.crt"

    @property
    def keys(self) -> Path:
        """Keys of the journal; mode 0600."""
        return self.path / "journal.keys"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.path / "journal.db"

    @property
    def policy(self) -> Path:
        """What may cross."""
        return self.path / "policy.toml"

    @property
    def secret(self) -> Path:
        """Makes pseudonyms; mode 0600."""
        return self.path / "policy.secret"

    @property
    def config(self) -> Path:
        """What runs inside."""
        return self.path / "gateway.toml"

    @property
    def status(self) -> Path:
        """How the running program is, for `consilium gateway status`."""
        return self.path / "status.json"

    def prepare(self) -> None:
        """Make it.

        Raises:
            StartError: it cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise StartError(Exit.DATA_DIR, f"The folder {self.path} cannot be made: {problem.strerror}.") from None

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Nobody else runs a gateway in this folder meanwhile.

        Raises:
            StartError: somebody does.
        """
        self.prepare()
        handle = os.open(self.path / "running", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise StartError(Exit.PORT_IN_USE, f"A gateway is already running in {self.path}.") from None
        try:
            yield
        finally:
            os.close(handle)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class JournalPart(_Part):
    """``[journal]``"""

    max_bytes: Annotated[int, Field(ge=1_000_000)] = DEFAULTS.max_bytes
    max_count: Annotated[int, Field(ge=100)] = DEFAULTS.max_count
    warn_share: Annotated[float, Field(gt=0, lt=1)] = DEFAULTS.warn_share
    parked_bytes: Annotated[int, Field(ge=0)] = DEFAULTS.parked_bytes
    keep_rows: Annotated[int, Field(ge=1_000)] = DEFAULTS.keep_rows
    inward_count: Annotated[int, Field(ge=1)] = DEFAULTS.inward_count
    inward_bytes: Annotated[int, Field(ge=1_000_000)] = DEFAULTS.inward_bytes
    keep_free_bytes: Annotated[int, Field(ge=1_000_000)] = DEFAULTS.keep_free_bytes

    @property
    def limits(self) -> JournalLimits:
        """As the journal takes them."""
        return JournalLimits(**self.model_dump())


class HubPart(_Part):
    """``[hub]``"""

    proxy: Annotated[str, Field(pattern="^http://")] | None = None
    """HTTP proxy that lets CONNECT through, where the hospital's only way out is one."""


class GatewayConfig(_Part):
    """The whole of ``gateway.toml``; every part may be left out."""

    journal: JournalPart = Field(default_factory=JournalPart)
    hub: HubPart = Field(default_factory=HubPart)
    adapter: tuple[dict[str, Any], ...] = ()
    inlet: tuple[dict[str, Any], ...] = ()
    responder: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    """How this hospital's HL7 v2 is to be read; `server.gateway.hl7v2.profile`."""


def load_config(folder: Folder) -> GatewayConfig:
    """``gateway.toml``; without the file nothing runs inside.

    Raises:
        StartError: with the place and what is wrong there.
    """
    try:
        raw = tomllib.loads(folder.config.read_text("utf-8")) if folder.config.exists() else {}
        return GatewayConfig.model_validate({name: _frozen(value) for name, value in raw.items()})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise StartError(Exit.SETTINGS, f"{folder.config} cannot be read: {problem}.") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StartError(Exit.SETTINGS, f"{folder.config}, {place}: {first['msg']}.") from None


def load_policy(folder: Folder, file: Path | None = None) -> Policy:
    """The hospital's policy, with the secret of its pseudonyms (made at the first start).

    Raises:
        StartError: there is none, or it cannot be used.
    """
    path = file or folder.policy
    with suppress(FileExistsError):
        write_private(folder.secret, secrets.token_bytes(SECRET_BYTES), exclusive=True)
    try:
        return parse_policy(path.read_text("utf-8"), read_private(folder.secret))
    except FileNotFoundError:
        raise StartError(
            Exit.SETTINGS, f"There is no policy {path}: nothing may cross. POLICY.md shows how to write one."
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise StartError(Exit.SETTINGS, f"{path} cannot be read: {problem}.") from None
    except PolicyInvalid as problem:
        raise StartError(Exit.SETTINGS, f"{path}: {problem}") from None


def journal_keys(folder: Folder) -> SealingKeys:
    """Keys of the journal, from the environment or the folder.

    Raises:
        StartError: they cannot be used.
    """
    return load_keys(folder.keys, os.environ.get(KEYS_VARIABLE, ""))


def _frozen(value: Any) -> Any:
    """Lists of tables as the strict models take them."""
    return tuple(value) if isinstance(value, list) else value
