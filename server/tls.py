"""TLS: a given certificate, or a local certificate authority made by ``consilium ca``.

The authority lives ten years in the data folder and is name-constrained: whoever
steals its key can impersonate only names below ``.local``, ``.lan``, the host it
was made for, and addresses of private networks, never a bank. The server's own
certificate lives 397 days (browsers refuse longer) and is made again when
less than a third is left.

A certificate file that changes on disk is taken over by running servers without
a restart: the same `SSLContext` loads the new chain, new connections use it.
"""

import asyncio
import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.exits import Exit, StartError
from server.metrics import CERT_EXPIRY

log = structlog.get_logger(__name__)

CA_DAYS = 3_650
LEAF_DAYS = 397
RENEW_BELOW_DAYS = LEAF_DAYS // 3
WATCH_S = 30.0
_BACKDATE = datetime.timedelta(hours=1)
"""A client whose clock is a little behind must not see a certificate from the future."""

PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
LOCAL_DOMAINS = ("local", "lan", "localhost")


class TlsError(StartError):
    """A certificate or key cannot be used."""

    def __init__(self, sentence: str) -> None:
        super().__init__(Exit.TLS, sentence)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityFiles:
    """Where things are, below ``<data folder>/tls``."""

    folder: Path

    @property
    def ca_cert(self) -> Path:
        """The certificate that machines are told to trust."""
        return self.folder / "consilium-ca.crt"

    @property
    def ca_key(self) -> Path:
        """Mode 0600; may be moved to an offline place and brought back for a renewal."""
        return self.folder / "consilium-ca.key"

    @property
    def cert(self) -> Path:
        """Server certificate followed by the authority's."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """Mode 0600."""
        return self.folder / "server.key"


def make_authority(folder: Path, hosts: Sequence[str], now: datetime.datetime) -> AuthorityFiles:
    """Make the authority (once) and a server certificate for ``hosts`` (each time).

    Args:
        hosts: DNS names and IP addresses by which browsers will call the server.

    Raises:
        TlsError: no host, or a host outside the authority's constraints, or files that cannot be used.
    """
    names = _general_names(hosts)
    files = AuthorityFiles(folder=folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files.ca_cert.exists():
            ca_cert, ca_key = _load_authority(files)
        else:
            ca_cert, ca_key = _new_authority(files, names, now)
        _check_constraints(ca_cert, names)
        _new_leaf(files, ca_cert, ca_key, names, now)
    except OSError as problem:
        raise TlsError(f"{folder} cannot be used: {problem.strerror}.") from None
    return files


def renew_if_due(folder: Path, now: datetime.datetime) -> bool:
    """Make the server certificate again for the same hosts when less than a third of its life is left.

    Raises:
        TlsError: the authority's key is not here (kept offline), or cannot be used.
    """
    files = AuthorityFiles(folder=folder)
    if expires_at(files.cert) - now > datetime.timedelta(days=RENEW_BELOW_DAYS):
        return False
    leaf = x509.load_pem_x509_certificate(files.cert.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    make_authority(folder, [str(name.value) for name in names], now)
    return True


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate.

    Raises:
        TlsError: missing, unreadable, or the two do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, cert_file, key_file)
    return context


def _load_chain(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    try:
        context.load_cert_chain(cert_file, key_file)
    except ssl.SSLError as problem:
        raise TlsError(f"{cert_file} and {key_file} cannot be used together: {problem.reason}.") from None
    except OSError as problem:
        raise TlsError(f"{cert_file} or {key_file} cannot be read: {problem.strerror}.") from None


def expires_at(cert_file: Path) -> datetime.datetime:
    """End of the first certificate in a file.

    Raises:
        TlsError: not a certificate.
    """
    try:
        return x509.load_pem_x509_certificate(cert_file.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise TlsError(f"{cert_file} does not hold a certificate.") from None


class CertificateWatch:
    """Take over a renewed certificate while running; one task."""

    def __init__(self, context: ssl.SSLContext, cert_file: Path, key_file: Path, every_s: float = WATCH_S) -> None:
        self._context = context
        self._files = (cert_file, key_file)
        self._every_s = every_s
        self._seen = self._stamp()
        self._cannot_renew = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run(), name="certificate-watch")

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.to_thread(self.check)
            await asyncio.sleep(self._every_s)

    def check(self) -> bool:
        """Look once; whether a new certificate was taken over. A broken one is logged and the old one stays."""
        try:
            self._renew()
            CERT_EXPIRY.set((expires_at(self._files[0]) - datetime.datetime.now(datetime.UTC)).total_seconds())
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            # Tried on a context of its own first: a failed load must not disturb the one in use.
            server_context(*self._files)
            _load_chain(self._context, *self._files)
        except TlsError as problem:
            log.warning("certificate not taken over", problem=str(problem))
            return False
        self._seen = stamp
        log.info("certificate taken over", file=str(self._files[0]))
        return True

    def _renew(self) -> None:
        """Only for a certificate of our own authority; a hospital's own certificate is its own business."""
        own = AuthorityFiles(folder=self._files[0].parent)
        if self._files[0] != own.cert or not own.ca_cert.exists() or self._cannot_renew:
            return
        try:
            renew_if_due(own.folder, datetime.datetime.now(datetime.UTC))
        except TlsError as problem:
            self._cannot_renew = True  # said once: the metric goes on counting down
            log.warning("certificate not renewed", problem=str(problem))

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        try:
            stats = [file.stat() for file in self._files]
        except OSError:
            return ()
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _general_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host.lower()))
            except ValueError:
                raise TlsError(f"{host} is neither an IP address nor a DNS name in ASCII.") from None
    if not names:
        raise TlsError("Name at least one host by which browsers will call the server.")
    return names


def _permitted(names: Sequence[x509.GeneralName]) -> list[x509.GeneralName]:
    domains = dict.fromkeys([*LOCAL_DOMAINS, *(name.value for name in names if isinstance(name, x509.DNSName))])
    return [
        *(x509.DNSName(domain) for domain in domains),
        *(x509.IPAddress(ipaddress.ip_network(network)) for network in PRIVATE_NETWORKS),
    ]


def _check_constraints(ca_cert: x509.Certificate, names: Sequence[x509.GeneralName]) -> None:
    permitted = ca_cert.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    for name in names:
        if not any(_within(name, subtree) for subtree in permitted):
            raise TlsError(
                f"{name.value} is outside the names this authority may vouch for. "
                "Use a name below .local or .lan or a private address, or make a new authority for it."
            )


def _within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(subtree, x509.DNSName):
        return name.value == subtree.value or name.value.endswith(f".{subtree.value}")
    if isinstance(name, x509.IPAddress) and isinstance(subtree, x509.IPAddress):
        network, address = subtree.value, name.value
        return (
            isinstance(network, (ipaddress.IPv4Network, ipaddress.IPv6Network))
            and isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
            and address.version == network.version
            and address in network
        )
    return False


def _subject(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _new_authority(
    files: AuthorityFiles, names: Sequence[x509.GeneralName], now: datetime.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"Consilium local CA {now:%Y-%m-%d}")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(_permitted(names), None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_private(files.ca_key, key)
    files.ca_cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return cert, key


def _new_leaf(
    files: AuthorityFiles,
    ca_cert: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName],
    now: datetime.datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + datetime.timedelta(days=LEAF_DAYS), ca_cert.not_valid_after_utc)
    cert = (
        x509.CertificateBuilder()
        # Not a host: names are in the extension. An address here would be held against the DNS constraints (OpenSSL).
        .subject_name(_subject("Consilium server"))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    chain = cert.public_bytes(serialization.Encoding.PEM) + ca_cert.public_bytes(serialization.Encoding.PEM)
    _write_private(files.key, key)
    _replace(files.cert, chain, 0o644)


def _load_authority(files: AuthorityFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        cert = x509.load_pem_x509_certificate(files.ca_cert.read_bytes())
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
        cert.verify_directly_issued_by(cert)
    except (OSError, ValueError, TypeError, InvalidSignature):
        raise TlsError(
            f"The authority in {files.folder} cannot be used; restore its key or remove both files."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise TlsError(f"{files.ca_key} is not the key of {files.ca_cert}.")
    return cert, key


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(path, pem, 0o600)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """A reader sees the old file or the new one, never half of one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    fresh.replace(path)
