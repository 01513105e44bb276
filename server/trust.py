"""The page that tells a machine to trust this hospital's own certificate authority.

It is served over plain HTTP, because before the authority is trusted there is no
other way in. Somebody on the line could replace the certificate: the page and
`consilium ca` both show its fingerprint, to be compared before installing.
Nothing else is served here; every other path leads to the real address.
"""

import base64
import html
import plistlib
import uuid
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

CRT = "consilium-ca.crt"
PROFILE = "consilium-ca.mobileconfig"
_CSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_PAGE = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Consilium</title><style>body{{font:1.1rem/1.6 system-ui;max-width:44rem;margin:2rem auto;padding:0 1rem}}
code{{overflow-wrap:anywhere}}</style></head><body>
<h1>信任本院证书 · Trust this hospital's certificate</h1>
<p>请先与管理员核对指纹。 Compare this fingerprint with your administrator first (SHA-256):</p>
<p><code>{fingerprint}</code></p>
<ul>
<li><a href="/trust/{crt}">{crt}</a> — Windows（受信任的根证书颁发机构 / Trusted Root Certification Authorities）,
macOS, Android, Firefox; Debian:
<code>/usr/local/share/ca-certificates/</code> + <code>update-ca-certificates</code></li>
<li><a href="/trust/{profile}">{profile}</a> — iPhone, iPad</li>
</ul>
<p>然后打开 Then open <a href="{origin}">{origin}</a></p>
</body></html>
"""


def fingerprint(cert: x509.Certificate) -> str:
    """SHA-256 in the grouping that certificate dialogs show."""
    return cert.fingerprint(hashes.SHA256()).hex(":").upper()


def build_trust_app(ca_file: Path, origin: str) -> web.Application:
    """Page, certificate, iOS profile, and a redirect for everything else."""
    cert = x509.load_pem_x509_certificate(ca_file.read_bytes())
    der = cert.public_bytes(Encoding.DER)
    page = _PAGE.format(fingerprint=fingerprint(cert), crt=CRT, profile=PROFILE, origin=html.escape(origin, quote=True))

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def crt(_request: web.Request) -> web.Response:
        return web.Response(body=der, content_type="application/x-x509-ca-cert")

    async def profile(_request: web.Request) -> web.Response:
        return web.Response(body=_profile(der), content_type="application/x-apple-aspen-config")

    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/trust")

    async def headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = _CSP
        response.headers["X-Content-Type-Options"] = "nosniff"

    app = web.Application()
    app.on_response_prepare.append(headers)
    app.router.add_get("/trust", show)
    app.router.add_get(f"/trust/{CRT}", crt)
    app.router.add_get(f"/trust/{PROFILE}", profile)
    app.router.add_get("/{path:.*}", elsewhere)
    return app


def _profile(der: bytes) -> bytes:
    """Apple configuration profile with one root certificate; its ids follow from the certificate."""
    identity = uuid.uuid5(uuid.NAMESPACE_OID, base64.b64encode(der).decode())
    payload = {
        "PayloadType": "com.apple.security.root",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"consilium.ca.{identity}",
        "PayloadUUID": str(identity),
        "PayloadDisplayName": "Consilium local CA",
        "PayloadContent": der,
    }
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": f"consilium.trust.{identity}",
            "PayloadUUID": str(uuid.uuid5(identity, "profile")),
            "PayloadDisplayName": "Consilium",
            "PayloadContent": [payload],
        }
    )
