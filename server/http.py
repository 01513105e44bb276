"""The web application: API routes, health, and the static client."""

import asyncio
import functools
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from server.api import (
    auditing,
    casepack,
    casepack_asks,
    consults,
    fhir,
    fhir_writes,
    fhircast,
    gateways,
    imaging,
    lock,
    lock_admin,
    nettest,
    record,
    session,
    smart,
    walls,
    waveforms,
    whip,
)
from server.api.errors import ApiCode, ApiError
from server.api.guard import BODY_LIMIT_BYTES, add_headers, guard
from server.api.services import SERVICES, Services
from server.identity.aio.tokens import token_key
from server.record.core.cursor import cursor_key
from server.smart.aio.access import Recorder
from server.smart.aio.grants import Grants
from server.smart.aio.keys import identity_key
from server.storage.consult_store import Meanings

PAGES = {
    "/": "index.html",
    "/join": "index.html",
    "/station": "index.html",
    "/login": "index.html",
    "/test": "index.html",
    "/casepack/{consult}": "index.html",
    "/admin/gateways": "index.html",
    "/admin/gateways/{gateway}": "index.html",
    "/admin/programs": "index.html",
    "/consult/{consult}": "consult.html",
    "/wall": "wall.html",
}
"""Three entry pages; the rest of the path is the page's own business."""

_HERE = Path(__file__).parent
WEB_ROOTS = (_HERE / "web", _HERE.parent / "web_client" / "dist")
"""Where the built client is: inside an installed package, else in the source tree."""

NOT_BUILT = "The web client has not been built. Run `make demo`, or `npm run build` in web_client.\n"

mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("application/manifest+json", ".webmanifest")


def web_root() -> Path | None:
    """Folder of the built client, None when there is none."""
    return next((root for root in WEB_ROOTS if (root / "index.html").is_file()), None)


def build_web(services: Services, root: Path | None) -> web.Application:
    """The application without sockets or lifecycle."""
    app = web.Application(middlewares=[guard], client_max_size=BODY_LIMIT_BYTES)
    app[SERVICES] = services
    app[imaging.AT_ONCE] = asyncio.Semaphore(imaging.DRAWN_AT_ONCE)
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    for module in (
        session,
        consults,
        imaging,
        record,
        auditing,
        waveforms,
        walls,
        whip,
        nettest,
        gateways,
        lock,
        lock_admin,
        fhircast,
    ):
        app.add_routes(module.routes)
    app[casepack.TABLES] = casepack.tables_of(services.settings)
    for module in (casepack, casepack_asks):
        app.add_routes(module.routes)
    add_fhir(app, services)
    app.router.add_route("*", "/api/{rest:.*}", _no_such_route)
    _add_client(app, root)
    return app


def add_fhir(app: web.Application, services: Services) -> None:
    """The FHIR interface and the authorization server."""
    folder = services.settings.data_dir
    app[smart.GRANTS] = Grants(services.database, services.now_ms, functools.cache(lambda: identity_key(folder)))
    recorder = app[record.RECORDER] = Recorder(services.database)
    app[record.MEANINGS] = Meanings()
    app[record.CURSOR_KEY] = cursor_key(token_key(folder))
    for module in (smart, fhir, fhir_writes):
        app.add_routes(module.routes)

    async def last_readers(_app: web.Application) -> None:
        await recorder.close()

    app.on_shutdown.append(last_readers)


async def _healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    """The server takes consults."""
    state = request.app[SERVICES].state
    if state.ready and not state.stopping:
        return web.Response(text="ready\n")
    return web.Response(text="stopping\n" if state.stopping else "starting\n", status=503)


async def _no_such_route(_request: web.Request) -> web.Response:
    raise ApiError(ApiCode.NOT_FOUND)


def _add_client(app: web.Application, root: Path | None) -> None:
    for path, name in PAGES.items():
        app.router.add_get(path, _page(None if root is None else root / name))
    if root is None:
        return
    if (root / "assets").is_dir():
        app.router.add_static("/assets", root / "assets")
    for file in sorted(root.iterdir()):
        if file.is_file() and file.suffix != ".html":
            app.router.add_get(f"/{file.name}", _page(file))


def _page(file: Path | None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(_request: web.Request) -> web.StreamResponse:
        if file is None:
            return web.Response(text=NOT_BUILT, status=503)
        return web.FileResponse(file)

    return serve
