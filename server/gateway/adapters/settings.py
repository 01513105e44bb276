"""Tables of ``gateway.toml`` -> adapters, inlets, responder and profile; every key checked, unknown ones refused.

`GATEWAY_INSIDE.md` beside this file shows a whole one.
"""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from server.gateway.adapters.fhir_client import FhirResponder, FhirServer
from server.gateway.adapters.files import FileRules
from server.gateway.adapters.folder import FolderWatch, WatchedFolder
from server.gateway.adapters.mllp_client import MllpSender, MllpTarget
from server.gateway.adapters.mllp_server import MllpListen, MllpServer
from server.gateway.core.crossing import Adapter, Inlet
from server.gateway.core.responder import Responder
from server.gateway.hl7v2.charset import codec_of
from server.gateway.hl7v2.outgoing import Destination
from server.gateway.hl7v2.profile import Profile, ProfileInvalid

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

    def build(self, profile: Profile, folder: Path) -> Adapter:
        """The adapter."""
        tls = _server_tls(folder, self.tls_cert, self.tls_key, self.tls_client_ca)
        listen = self.model_dump(exclude={"type", "tls_cert", "tls_key", "tls_client_ca"})
        return MllpServer(MllpListen(**listen, tls=tls), profile)


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


class FhirTable(_Table):
    """``[responder] type = "fhir"``"""

    type: Literal["fhir"]
    name: Name = "fhir"
    base: str
    token_file: Path | None = None
    """Bearer token, read for each question; may be replaced while the gateway runs."""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    answer_s: Seconds = 15
    connections: Annotated[int, Field(ge=1, le=100)] = 8
    remember_s: Annotated[float, Field(ge=0, le=600)] = 30

    @field_validator("base")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("the server's base address, like https://fhir.hospital.local/r4")
        return value

    def build(self, folder: Path) -> Responder:
        """The responder."""
        tls = _client_tls(folder, self.tls_ca, self.tls_cert, self.tls_key) if self.base.startswith("https") else None
        token = None
        if self.token_file is not None:
            file = folder / self.token_file
            file.read_text("ascii")  # told at the start rather than at the first question

            def token() -> str:
                return file.read_text("ascii").strip()

        rest = self.model_dump(include={"name", "base", "answer_s", "connections", "remember_s"})
        return FhirResponder(FhirServer(**rest, token=token, tls=tls))


AdapterTable = Annotated[MllpTable | DicomTable | FolderTable, Field(discriminator="type")]
_ADAPTERS: TypeAdapter[MllpTable | DicomTable | FolderTable] = TypeAdapter(AdapterTable)


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
