"""Tables of ``gateway.toml`` -> adapters, inlets, responder and profile; every key checked, unknown ones refused.

`GATEWAY_INSIDE.md` beside this file shows a whole one.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from server.gateway.adapters.fhir_answers import SEARCHABLE
from server.gateway.adapters.fhir_client import FhirResponder, FhirServer
from server.gateway.adapters.fhir_http import Authorize, OAuth, basic_of, bearer_of, oauth_of
from server.gateway.adapters.fhir_poll import FhirPoll, FhirSource
from server.gateway.adapters.files import FileRules
from server.gateway.adapters.folder import FolderWatch, WatchedFolder
from server.gateway.adapters.mllp_client import MllpSender, MllpTarget
from server.gateway.adapters.mllp_server import MllpListen, MllpServer
from server.gateway.adapters.waveform_spool import RoutedBy, WaveformRoutes, is_in_memory
from server.gateway.core.crossing import Adapter, Inlet
from server.gateway.core.responder import Responder
from server.gateway.hl7v2.charset import codec_of
from server.gateway.hl7v2.outgoing import Destination
from server.gateway.hl7v2.profile import Profile, ProfileInvalid
from server.gateway.hl7v2.times import instant_us

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
System = Annotated[str, Field(min_length=3, max_length=200, pattern=r":")]


class SettingsInvalid(ValueError):
    """A table cannot be used; the text names the key and what is wrong, for the administrator."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Listens(_Table):
    """What accepts connections."""

    name: Name
    host: str
    port: Port
    peers: tuple[str, ...] = ()

    @field_validator("host")
    @classmethod
    def _inside(cls, value: str) -> str:
        address = ipaddress.ip_address(value)
        if address.is_unspecified or address.is_multicast:
            raise ValueError("name one address inside the hospital: all addresses may include one outside")
        return value

    @field_validator("peers")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for peer in value:
            ipaddress.ip_network(peer, strict=False)
        return value


class ProfileTable(_Table):
    """``[profile]``"""

    hospital: Text
    authorities: dict[str, System]
    default_authority: str = ""
    primary_system: str = ""
    national_id_system: str = ""
    zone: str = "Asia/Shanghai"
    charset: str = "UNICODE UTF-8"
    coding_systems: dict[str, System] = Field(default_factory=dict)
    test_patients: tuple[tuple[System, Text], ...] = ()
    categories: dict[str, str] = Field(default_factory=dict)
    slot_minutes: Annotated[int, Field(ge=1, le=1440)] | None = None

    def build(self) -> Profile:
        """As the conversion takes it."""
        return Profile(**{**self.model_dump(), "test_patients": frozenset(self.test_patients)})


class WaveformTable(_Table):
    """``waveforms = { ... }`` of an MLLP adapter."""

    folder: Path
    by: RoutedBy
    streams: Annotated[dict[Text, Name], Field(min_length=1)]

    @field_validator("folder")
    @classmethod
    def _in_memory(cls, value: Path) -> Path:
        if not value.is_absolute() or not is_in_memory(value, Path("/proc/self/mounts").read_text("utf-8")):
            raise ValueError("a folder in memory (tmpfs), such as /run/consilium: live signals are on no disk in clear")
        return value


class MllpTable(_Listens):
    """``[[adapter]] type = "mllp"``"""

    type: Literal["mllp"]
    max_message_bytes: Annotated[int, Field(ge=64_000, le=48_000_000)] = 8 * 1024 * 1024
    max_connections: Annotated[int, Field(ge=1, le=1_000)] = 64
    message_s: Seconds = 60
    idle_s: Seconds = 86_400
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Senders must bring a certificate of this authority."""
    waveforms: WaveformTable | None = None

    def build(self, profile: Profile, folder: Path) -> Adapter:
        """The adapter."""
        tls = _server_tls(folder, self.tls_cert, self.tls_key, self.tls_client_ca)
        listen = self.model_dump(exclude={"type", "tls_cert", "tls_key", "tls_client_ca", "waveforms"})
        routes = None if self.waveforms is None else WaveformRoutes(**self.waveforms.model_dump())
        return MllpServer(MllpListen(**listen, tls=tls, waveforms=routes), profile)


class DicomTable(_Listens):
    """``[[adapter]] type = "dicom"``"""

    type: Literal["dicom"]
    ae_title: Annotated[str, Field(pattern=r"^[A-Z0-9_-]{1,16}$")] = "CONSILIUM"
    callers: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=16)], ...], Field(min_length=1)]
    issuers: dict[str, System]
    max_object_bytes: Annotated[int, Field(ge=1_000_000, le=64 * 1024 * 1024)] = 64 * 1024 * 1024
    max_buffered_bytes: Annotated[int, Field(ge=64 * 1024 * 1024)] = 256 * 1024 * 1024
    max_associations: Annotated[int, Field(ge=1, le=100)] = 10
    network_s: Seconds = 60

    def build(self, profile: Profile, _folder: Path) -> Adapter:
        """The adapter."""
        from server.gateway.adapters.dicom import DicomListen, DicomStore  # pynetdicom, only where it is needed

        return DicomStore(DicomListen(**self.model_dump(exclude={"type"})), profile)


class FolderTable(_Table):
    """``[[adapter]] type = "folder"``"""

    type: Literal["folder"]
    name: Name
    path: Path
    patient_system: str = ""
    name_pattern: str = ""
    issuers: dict[str, System] = Field(default_factory=dict)
    stable_s: Annotated[float, Field(ge=0.5, le=600)] = 2
    look_s: Annotated[float, Field(ge=0.1, le=600)] = 1
    keep_done: bool = True

    @field_validator("name_pattern")
    @classmethod
    def _names_patient(cls, value: str) -> str:
        try:
            if value and "patient" not in re.compile(value).groupindex:
                raise ValueError("needs a group (?P<patient>...)")
        except re.error as problem:
            raise ValueError(f"no regular expression: {problem}") from None
        return value

    @model_validator(mode="after")
    def _pattern_needs_system(self) -> Self:
        if self.name_pattern and not self.patient_system:
            raise ValueError("name_pattern needs patient_system")
        return self

    def build(self, profile: Profile, folder: Path) -> Adapter:
        """The adapter."""
        pattern = re.compile(self.name_pattern) if self.name_pattern else None
        rules = FileRules(patient_system=self.patient_system, name_pattern=pattern, issuers=self.issuers)
        watched = WatchedFolder(
            name=self.name, path=folder / self.path, rules=rules, stable_s=self.stable_s, look_s=self.look_s,
            keep_done=self.keep_done,
        )  # fmt: skip
        return FolderWatch(watched, profile)


class MllpInletTable(_Table):
    """``[[inlet]] type = "mllp"``"""

    type: Literal["mllp"]
    name: Name
    host: Text
    port: Port
    application: Text
    facility: str = ""
    authorities: Annotated[dict[System, Text], Field(min_length=1)]
    charset: str = "UNICODE UTF-8"
    version: Literal["2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8"] = "2.5.1"
    sending_application: Text = "CONSILIUM"
    sending_facility: str = ""
    processing_id: Literal["P", "T", "D"] = "P"
    connect_s: Seconds = 10
    answer_s: Seconds = 60
    ae_attempts: Annotated[int, Field(ge=1, le=1_000)] = 10
    silent_attempts: Annotated[int, Field(ge=0, le=10_000)] = 0
    tls_ca: Path | None = None
    """Given: TLS, and only this authority is trusted."""

    @field_validator("charset")
    @classmethod
    def _known(cls, value: str) -> str:
        if codec_of(value) is None:
            raise ValueError("no character set of HL7 table 0211 that is taken")
        return value

    def build(self, folder: Path) -> Inlet:
        """The inlet."""
        said = {"application", "facility", "authorities", "charset", "version", "sending_application"}
        said |= {"sending_facility", "processing_id"}
        destination = Destination(**self.model_dump(include=said))
        tls = _client_tls(folder, self.tls_ca, None, None) if self.tls_ca is not None else None
        rest = self.model_dump(
            include={"name", "host", "port", "connect_s", "answer_s", "ae_attempts", "silent_attempts"}
        )
        return MllpSender(MllpTarget(**rest, destination=destination, tls=tls))


class OAuthTable(_Table):
    """``oauth = { ... }`` of a FHIR server: client credentials."""

    token_url: str
    client_id: Text
    secret_file: Path
    scope: str = ""

    @field_validator("token_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return _checked_address(value)


class _FhirServerTable(_Table):
    """A FHIR server of the hospital, and who we are there."""

    base: str
    token_file: Path | None = None
    """Bearer token. This file and the other secrets are read when they are needed; each may be replaced meanwhile."""
    basic_file: Path | None = None
    """``user:password``"""
    oauth: OAuthTable | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @field_validator("base")
    @classmethod
    def _address(cls, value: str) -> str:
        return _checked_address(value)

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if sum(one is not None for one in (self.token_file, self.basic_file, self.oauth)) > 1:
            raise ValueError("one of token_file, basic_file and oauth")
        return self

    def tls(self, folder: Path) -> ssl.SSLContext | None:
        """None where the address is plain."""
        if not self.base.startswith("https"):
            return None
        return _client_tls(folder, self.tls_ca, self.tls_cert, self.tls_key)

    def authorize(self, folder: Path) -> Authorize | None:
        """How it is said who we are."""
        if self.token_file is not None:
            return bearer_of(_secret(folder / self.token_file))
        if self.basic_file is not None:
            return basic_of(_secret(folder / self.basic_file))
        if self.oauth is None:
            return None
        one = self.oauth
        tls = _client_tls(folder, self.tls_ca, None, None) if one.token_url.startswith("https") else None
        secret = _secret(folder / one.secret_file)
        return oauth_of(
            OAuth(token_url=one.token_url, client_id=one.client_id, secret=secret, scope=one.scope, tls=tls)
        )


class FhirPollTable(_FhirServerTable):
    """``[[adapter]] type = "fhir"``"""

    type: Literal["fhir"]
    name: Name
    types: Annotated[tuple[Text, ...], Field(min_length=1)]
    identifier_systems: Annotated[tuple[System, ...], Field(min_length=1)]
    since: str = ""
    every_s: Annotated[float, Field(ge=1, le=86_400)] = 30
    overlap_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 120
    page_count: Annotated[int, Field(ge=1, le=1_000)] = 100
    answer_s: Seconds = 60

    @field_validator("types")
    @classmethod
    def _of_the_record(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        strange = set(value) - SEARCHABLE - {"Patient"}
        if strange:
            raise ValueError(f"{min(strange)} is not read: it is not of a patient's record")
        return value

    @field_validator("since")
    @classmethod
    def _instant(cls, value: str) -> str:
        if value and not instant_us(value):
            raise ValueError("a FHIR instant, like 2026-01-01T00:00:00+08:00")
        return value

    def build(self, profile: Profile, folder: Path) -> Adapter:
        """The adapter."""
        rest = {
            "name",
            "base",
            "types",
            "identifier_systems",
            "since",
            "every_s",
            "overlap_s",
            "page_count",
            "answer_s",
        }
        source = FhirSource(
            **self.model_dump(include=rest), place=folder / f"fhir-{self.name}.place",
            authorize=self.authorize(folder), tls=self.tls(folder),
        )  # fmt: skip
        return FhirPoll(source, profile)


class FhirTable(_FhirServerTable):
    """``[responder] type = "fhir"``"""

    type: Literal["fhir"]
    name: Name = "fhir"
    answer_s: Seconds = 15
    connections: Annotated[int, Field(ge=1, le=100)] = 8
    remember_s: Annotated[float, Field(ge=0, le=600)] = 30

    def build(self, folder: Path) -> Responder:
        """The responder."""
        rest = self.model_dump(include={"name", "base", "answer_s", "connections", "remember_s"})
        return FhirResponder(FhirServer(**rest, authorize=self.authorize(folder), tls=self.tls(folder)))


def _checked_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ValueError("a server's address, like https://fhir.hospital.local/r4")
    return value


def _secret(file: Path) -> Callable[[], str]:
    """Reads a file each time.

    Raises:
        OSError: it cannot be read: told at the start rather than at the first question.
    """

    def read() -> str:
        return file.read_text("utf-8").strip()

    read()
    return read


AdapterTable = Annotated[MllpTable | DicomTable | FolderTable | FhirPollTable, Field(discriminator="type")]
_ADAPTERS: TypeAdapter[MllpTable | DicomTable | FolderTable | FhirPollTable] = TypeAdapter(AdapterTable)


def build_profile(table: Mapping[str, Any]) -> Profile:
    """``[profile]``.

    Raises:
        SettingsInvalid: with the key.
    """
    try:
        return ProfileTable.model_validate(table).build()
    except ValidationError as problem:
        raise _told("profile", problem) from None
    except ProfileInvalid as problem:
        raise SettingsInvalid(f"profile: {problem}") from None


def build_adapter(table: Mapping[str, Any], profile: Profile, folder: Path) -> Adapter:
    """One ``[[adapter]]``.

    Args:
        folder: what relative paths are relative to.

    Raises:
        SettingsInvalid: with the key.
    """
    try:
        return _ADAPTERS.validate_python(table).build(profile, folder)
    except ValidationError as problem:
        raise _told(f"adapter {table.get('name', '')}".rstrip(), problem) from None
    except OSError as problem:
        raise SettingsInvalid(f"adapter {table.get('name', '')}: {problem.filename}: {problem.strerror}") from None


def build_inlet(table: Mapping[str, Any], folder: Path) -> Inlet:
    """One ``[[inlet]]``.

    Raises:
        SettingsInvalid: with the key.
    """
    try:
        return MllpInletTable.model_validate(table).build(folder)
    except ValidationError as problem:
        raise _told(f"inlet {table.get('name', '')}".rstrip(), problem) from None
    except OSError as problem:
        raise SettingsInvalid(f"inlet {table.get('name', '')}: {problem.filename}: {problem.strerror}") from None


def build_responder(table: Mapping[str, Any], folder: Path) -> Responder:
    """``[responder]``.

    Raises:
        SettingsInvalid: with the key.
    """
    try:
        return FhirTable.model_validate(table).build(folder)
    except ValidationError as problem:
        raise _told("responder", problem) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsInvalid(f"responder: a file cannot be read: {type(problem).__name__}") from None


def _told(where: str, problem: ValidationError) -> SettingsInvalid:
    first = problem.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return SettingsInvalid(f"{where}, {key or 'type'}: {first['msg']}")


def _server_tls(folder: Path, cert: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / cert, folder / key if key is not None else None)
    if client_ca is not None:
        context.load_verify_locations(folder / client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_tls(folder: Path, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / ca) if ca is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(folder / cert, folder / key if key is not None else None)
    return context
