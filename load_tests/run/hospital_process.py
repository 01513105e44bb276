"""A hospital's FHIR server as the lock's load needs one: answers from memory for any of the world's patients.

``python -m load_tests.run.hospital_process`` prints ``listening PORT`` and serves until it is ended. A search for a
Patient finds whom its identifier names; every patient has the same twenty laboratory results (`rig.fhir`).
"""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web

from load_tests.rig.fhir import RESULTS, observation, searchset

ANSWER = searchset([observation(number) for number in range(RESULTS)])


async def _search(request: web.Request) -> web.Response:
    form = await request.post()
    text = ANSWER
    if request.match_info["type"] == "Patient":
        system, _, value = str(form.get("identifier", "")).partition("|")
        person = {"resourceType": "Patient", "id": "1", "identifier": [{"system": system, "value": value}]}
        text = searchset([person] if value else [])
    return web.Response(text=text, content_type="application/fhir+json")


async def _main() -> None:
    app = web.Application()
    app.router.add_post("/{type:Patient|Observation}/_search", _search)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"listening {runner.addresses[0][1]}", flush=True)
        ended = asyncio.Event()
        for one in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(one, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_main())
