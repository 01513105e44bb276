"""A hospital's FHIR server as benchmarks and runs of the lock need one: it answers from memory, at once.

``python -m load_tests.rig.fhir PORT SYSTEM VALUE`` serves one patient with twenty laboratory results.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from aiohttp import web

RESULTS = 20


def observation(number: int) -> dict[str, Any]:
    """A result as laboratories send them, some 700 bytes."""
    return {
        "resourceType": "Observation",
        "id": f"k{number}",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                                  "code": "laboratory", "display": "Laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3", "display": "Potassium [Moles/volume]"}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": f"2026-11-{number % 28 + 1:02}T07:30:00+08:00",
        "valueQuantity": {"value": 4.1 + number / 100, "unit": "mmol/L", "system": "http://unitsofmeasure.org",
                          "code": "mmol/L"},
        "referenceRange": [{"low": {"value": 3.5, "unit": "mmol/L"}, "high": {"value": 5.3, "unit": "mmol/L"}}],
    }  # fmt: skip


def searchset(resources: list[dict[str, Any]]) -> str:
    """A Bundle of them."""
    entries = [{"resource": one, "search": {"mode": "match"}} for one in resources]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries})


def build(system: str, value: str) -> web.Application:
    """The server."""
    person = {"resourceType": "Patient", "id": "1", "identifier": [{"system": system, "value": value}]}
    answers = {
        "Patient": searchset([person]),
        "Observation": searchset([observation(number) for number in range(RESULTS)]),
    }

    async def search(request: web.Request) -> web.Response:
        await request.post()
        return web.Response(text=answers[request.match_info["type"]], content_type="application/fhir+json")

    app = web.Application()
    app.router.add_post("/{type:Patient|Observation}/_search", search)
    return app


if __name__ == "__main__":
    web.run_app(build(sys.argv[2], sys.argv[3]), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
