"""The FHIR interface on a real port, as apps and gateways use it, and as somebody would who may not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from server_hub import Hub
from smart_kit import REDIRECT, App, end, open_patient, refusal, register_clients
from sqlalchemy import select

from server.record.core.outcome import FhirRefusal
from server.record.core.query import parse_query
from server.storage.models import EventRow
from tests.fhir_kit import encounter, observation, patient, without_id
from tests.shared_data import shared


@pytest.fixture
async def app(hub: Hub) -> AsyncIterator[App]:
    """An app that a doctor of the first consult has allowed everything."""
    await register_clients(hub)
    await open_patient(hub)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        made = App(hub.origin, http)
        await made.allowed(await hub.doctor(), hub)
        yield made


async def as_gateway(app: App, hub: Hub, client: str = "gw", scope: str = "system/*.cruds") -> App:
    other = App(app.origin, app.http)
    await other.as_gateway(hub, client, scope)
    return other


async def test_the_capability_statement_is_true(hub: Hub, app: App) -> None:
    """Everything it names is there, and what it does not name is refused."""
    app.token = ""
    status, told = await app.get("/metadata")
    assert status == 200
    CapabilityStatement.model_validate(told)
    rest = told["rest"][0]
    # (H28) And the hub that it names answers.
    [fhircast] = rest["extension"]
    [hub_url] = fhircast["extension"]
    assert (fhircast["url"].rpartition("/")[2], hub_url["url"]) == ("fhircast-configuration-extension", "hub.url")
    path = hub_url["valueUrl"].removeprefix(told["implementation"]["url"].removesuffix("/fhir"))
    assert path.startswith("/")
    async with app.http.get(f"{app.origin}{path}/.well-known/fhircast-configuration") as answer:
        assert (answer.status, (await answer.json())["websocketSupport"]) == (200, True)
    await app.allowed(await hub.doctor(), hub)
    everywhere = {one["name"] for kind in rest["resource"] for one in kind["searchParam"]}
    values = {
        "token": "x", "reference": "Patient/x", "string": "x", "date": "2025", "quantity": "5", "composite": "x$5",
    }  # fmt: skip
    for kind in rest["resource"]:
        named = {one["name"]: one["type"] for one in kind["searchParam"]}
        for name, type_ in named.items():
            parse_query(kind["type"], [(name, values[type_])])
            if type_ != "composite" and name not in ("_id", "_lastUpdated"):
                parse_query(kind["type"], [(f"{name}:missing", "true")])
        for name in kind.get("searchInclude", []):
            parse_query(kind["type"], [("_include", name)])
        for name in kind.get("searchRevInclude", []):
            parse_query(kind["type"], [("_revinclude", name)])
        for name in everywhere - named.keys():
            with pytest.raises(FhirRefusal):
                parse_query(kind["type"], [(name, "x")])
    for kind in ("Observation", "Organization"):
        routes = {
            "read": ("GET", f"/{kind}/none"),
            "vread": ("GET", f"/{kind}/none/_history/1"),
            "history-instance": ("GET", f"/{kind}/none/_history"),
            "update": ("PUT", f"/{kind}/none"),
            "delete": ("DELETE", f"/{kind}/none"),
            "create": ("POST", f"/{kind}"),
            "search-type": ("GET", f"/{kind}"),
        }
        said = next(one for one in rest["resource"] if one["type"] == kind)
        assert {one["code"] for one in said["interaction"]} == routes.keys()
        for code, (method, path) in routes.items():
            body = {"resourceType": kind, "id": "none"} if method in ("PUT", "POST") else None
            if code == "search-type":
                assert (await app.get(path))[0] == 200
            else:
                expected = {"create": "invalid", "update": "not_found"}.get(code, "not_found")
                assert refusal(await app.fhir(method, path, body))[1] in (expected, "invalid", "forbidden")
    assert refusal(await app.get("/Claimed"))[1] == "unknown_type"
    assert refusal(await app.fhir("PATCH", "/Observation/k0", {})) == (405, "method")


async def test_reading_writing_and_versions(hub: Hub, app: App) -> None:
    """[C23] ETag, If-Match, If-None-Match, history with its deletion, Prefer."""
    new = {**without_id(observation("x", "pt1")), "status": "preliminary"}
    status, made = await app.fhir("POST", "/Observation", new)
    assert status == 201
    path, location = f"/Observation/{made['id']}", app.headers["Location"]
    assert (app.headers["ETag"], made["meta"]["versionId"]) == ('W/"1"', "1")
    assert await app.get(location) == (200, made)
    assert (await app.get(path, If_None_Match='W/"7", W/"1"'))[0] == 304
    changed = {**made, "status": "final"}
    assert refusal(await app.fhir("PUT", path, changed, If_Match='W/"2"')) == (412, "stale")
    assert refusal(await app.fhir("PUT", path, changed, If_Match="mine")) == (412, "stale")
    for method in ("PUT", "DELETE"):
        assert refusal(await app.fhir(method, path, changed, If_None_Match="*")) == (400, "unsupported")
    assert (await app.get(path))[1] == made, "a condition that is not understood is not left out"
    status, second = await app.fhir("PUT", path, changed, If_Match='W/"1"')
    assert (status, second["meta"]["versionId"]) == (200, "2")
    assert (await app.fhir("PUT", path, second))[1]["meta"]["versionId"] == "2", "unchanged content is no new version"
    assert refusal(await app.fhir("PUT", "/Observation/other", second)) == (400, "wrong_id")
    assert refusal(await app.fhir("PUT", "/Observation/unheard", {**second, "id": "unheard"})) == (404, "not_found")
    assert await app.fhir("PUT", path, {**second, "status": "amended"}, Prefer="return=minimal") == (200, None)
    assert refusal(await app.fhir("DELETE", path, If_Match='W/"1"')) == (412, "stale")
    assert (await app.fhir("DELETE", path))[0] == 204
    assert refusal(await app.get(path)) == (410, "deleted")
    assert refusal(await app.get(f"{path}/_history/4")) == (410, "deleted")
    assert (await app.get(f"{path}/_history/1"))[1] == made
    status, story = await app.get(f"{path}/_history?_count=3")
    assert [one["request"]["method"] for one in story["entry"]] == ["DELETE", "PUT", "PUT"]
    status, story = await app.get(next(one["url"] for one in story["link"] if one["relation"] == "next"))
    assert [one["response"]["etag"] for one in story["entry"]] == ['W/"1"']
    assert (await app.get(f"{path}/_history?_since=2000&_count=9"))[1]["entry"][3]["request"]["method"] == "POST"
    assert "entry" not in (await app.get(f"{path}/_history?_since=2999"))[1]
    assert refusal(await app.get(f"{path}/_history?_at=2000")) == (400, "unsupported")
    for asked in ({"Accept": "application/fhir+xml"}, {"Accept": "text/turtle;q=0.9"}):
        assert refusal(await app.get("/Observation/k0", **asked)) == (406, "format")
    assert refusal(await app.get("/Observation/k0?_format=xml", Accept="*/*")) == (406, "format")
    assert (await app.get("/Observation/k0?_format=json", Accept="text/html"))[0] == 200
    condition = "code=http://loinc.org|2823-3&date=2025-02-01"
    status, there = await app.fhir("POST", "/Observation", new, If_None_Exist=condition)
    assert (status, there["id"]) == (200, "k2")
    status, _ = await app.fhir("PUT", f"/Observation?{condition}", {**without_id(there), "status": "amended"})
    assert (status, (await app.get("/Observation/k2"))[1]["status"]) == (200, "amended")
    assert refusal(await app.fhir("PUT", "/Observation?code=2823-3", without_id(there))) == (412, "many_match")
    assert refusal(await app.fhir("PUT", "/Observation", there)) == (400, "query")
    assert refusal(await app.fhir("PUT", "/Observation?code=none-such", there)) == (404, "not_found"), "no id of theirs"
    for vague in ("code=&status=final", "code=2823-3&_count=0", "code="):
        assert refusal(await app.fhir("POST", "/Observation", new, If_None_Exist=vague)) == (400, "query")
    assert refusal(await app.fhir("DELETE", f"/Observation?{condition}", If_Match='W/"1"')) == (412, "stale")


async def test_a_decimal_is_kept_as_it_was_written(hub: Hub, app: App) -> None:
    """R4 section 2.24.0.1: 7.40 is another statement than 7.4, and so another version."""
    body = json.dumps(without_id(observation("x", "pt1")))
    headers = {"Authorization": f"Bearer {app.token}", "Content-Type": "application/fhir+json"}

    async def send(method: str, path: str, value: str, id_: str = "") -> tuple[int, str]:
        text = body.replace("4.1", value).replace('"status"', f'"id": "{id_}", "status"' if id_ else '"status"')
        async with app.http.request(method, f"{app.origin}/fhir{path}", data=text, headers=headers) as answer:
            return answer.status, await answer.text()

    status, text = await send("POST", "/Observation", "7.40")
    assert (status, '"value":7.40' in text) == (201, True)
    id_ = json.loads(text)["id"]
    for value, version in (("7.40", 1), ("7.4", 2), ("1.00e-3", 3), ("0.1000000000000000055511151231257827", 4)):
        text = (await send("PUT", f"/Observation/{id_}", value, id_))[1]
        assert (json.loads(text)["meta"]["versionId"], f'"value":{value}' in text) == (str(version), True)
    assert (await send("POST", "/Observation", "1e999"))[0] == 422
    deep = {"url": "urn:x", "valueString": "x"}
    for _ in range(150):
        deep = {"url": "urn:x", "extension": [deep]}  # type: ignore[dict-item]
    nested = {**without_id(observation("x", "pt1")), "extension": [deep]}
    assert refusal(await app.fhir("POST", "/Observation", nested)) == (422, "invalid")


async def test_what_is_not_valid_is_told_by_its_place_and_never_quoted(hub: Hub, app: App) -> None:
    """[G8] FHIR that fails validation, and bodies that are no FHIR at all."""
    secret = "张桂兰-secret"
    status, told = await app.fhir("POST", "/Observation", {
        **without_id(observation("x", "pt1")), "status": {"text": secret}, secret: 1, "zhangguilan": 1,
        "effectiveDateTime": secret,
        "component": [{"code": {}}, {"valueQuantity": {"value": secret}}],
    })  # fmt: skip
    assert status == 422
    OperationOutcome.model_validate(told)
    expressions = {one["expression"][0] for one in told["issue"]}
    assert {"Observation.status", "Observation.effectiveDateTime"} <= expressions
    assert secret not in json.dumps(told, ensure_ascii=False)
    assert "zhangguilan" not in json.dumps(told), "the name of a property that is none of FHIR's is content too"
    hostile: list[tuple[str, Any, str]] = [
        ("/Observation", [], "not_json"),
        ("/Observation", {"resourceType": "Patient"}, "wrong_id"),
        ("/Observation", {**without_id(observation("x", "pt1")), "subject": {"reference": "Group/1"}}, "invalid"),
        ("/Observation", {**without_id(observation("x", "pt1")), "note": None}, "invalid"),
        ("", {"resourceType": "Patient"}, "bundle"),
        ("", {"resourceType": "Bundle", "type": "collection"}, "bundle"),
    ]
    for path, body, code in hostile:
        assert refusal(await app.fhir("POST", path, body))[1] == code
    for raw, kind in ((b"{", "application/fhir+json"), (b"{}", "text/plain"), (b"[" * 99_999, "application/json"),
                      (b'{"a":"\\ud800"}', "application/json")):  # fmt: skip
        headers = {"Authorization": f"Bearer {app.token}", "Content-Type": kind}
        async with app.http.post(f"{app.origin}/fhir/Observation", data=raw, headers=headers) as answer:
            assert answer.status == (415 if kind == "text/plain" else 400)
            OperationOutcome.model_validate(await answer.json(content_type=None))
    headers = {"Authorization": f"Bearer {app.token}", "Content-Type": "application/json"}
    async with app.http.post(f"{app.origin}/fhir", data=b" " * (16 * 1024 * 1024 + 1), headers=headers) as answer:
        assert answer.status == 413
    # Last: the server closes a connection on which it can no longer tell what comes.
    headers |= {"Content-Encoding": "gzip"}
    async with app.http.post(f"{app.origin}/fhir/Observation", data=b"no gzip", headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["resourceType"]) == (400, "OperationOutcome")


async def test_every_other_address_and_method_is_refused_in_the_words_of_fhir(hub: Hub, app: App) -> None:
    """404 and 405 as OperationOutcome; what an address does answer to is in Allow (RFC 9110 section 15.5.6)."""
    for method, path, allowed in (
        ("GET", "", "POST"), ("PUT", "", "POST"), ("GET", "/", "POST"), ("POST", "/metadata", "GET, HEAD"),
        ("POST", "/Observation/k0", "GET, HEAD, PUT, DELETE"), ("PATCH", "/Observation/k0", "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/Observation/k0/_history", "GET, HEAD"), ("PUT", "/Observation/k0/_history/1", "GET, HEAD"),
        ("DELETE", "/Patient/pt1/$everything", "GET, HEAD, POST"),
        ("PATCH", "/Observation", "GET, HEAD, POST, PUT, DELETE"),
    ):  # fmt: skip
        assert refusal(await app.fhir(method, path, {})) == (405, "method"), (method, path)
        assert app.headers["Allow"] == allowed
    for method, path, code in (
        ("GET", "/Observation/k0/x", "not_found"), ("POST", "/Observation/k0/$everything", "not_found"),
        ("GET", "/Unheard/x/y", "unknown_type"), ("PATCH", "/Unheard/x", "unknown_type"),
        ("POST", "/$export", "unknown_type"),
    ):  # fmt: skip
        assert refusal(await app.fhir(method, path, {})) == (404, code), (method, path)
    async with app.http.post(f"{app.origin}/fhir/Patient/_search", data=b"{}", headers={
        "Authorization": f"Bearer {app.token}", "Content-Type": "application/json"}) as answer:  # fmt: skip
        assert (answer.status, (await answer.json(content_type=None))["resourceType"]) == (415, "OperationOutcome")


async def test_search_pages_and_its_parameters_stay_out_of_addresses(hub: Hub, app: App) -> None:
    """[G8] A page's address tells nobody what was asked; a cursor works for whom it was made, and unchanged."""
    assert await app.ids("/Observation?patient=pt1&category=laboratory&_sort=date") == ["k0", "k2", "k1"]
    async with app.http.post(
        f"{app.origin}/fhir/Patient/_search", data={"identifier": "pt1-0001", "_count": "1"},
        headers={"Authorization": f"Bearer {app.token}"},
    ) as answer:  # fmt: skip
        found = await answer.json(content_type=None)
    assert [one["resource"]["id"] for one in found["entry"]] == ["pt1"]
    assert found["link"][0]["relation"] == "self"
    assert "pt1-0001" not in found["link"][0]["url"]
    assert "identifier" not in found["link"][0]["url"]
    assert await app.ids(found["link"][0]["url"]) == ["pt1"], "sealed, and still the same search"
    _, plain = await app.get(
        "/Observation?date=ge2000&colour=red&value-quantity=gt4||mmol/L", Prefer="handling=lenient"
    )
    own = f"{app.origin}/fhir/Observation?date=ge2000&value-quantity=gt4||mmol/L"
    assert plain["link"][0] == {"relation": "self", "url": own}, "what was used, R4 section 3.1.1.3.2"
    _, first = await app.get("/Observation?patient=pt1&_count=3&_total=accurate&_include=Observation:patient")
    assert (first["total"], len(first["entry"])) == (4, 4)
    following = next(one["url"] for one in first["link"] if one["relation"] == "next")
    assert "patient" not in following.partition("?")[2]
    _, second = await app.get(following)
    assert second["link"][0] == {"relation": "self", "url": following}
    assert [one["resource"]["id"] for one in second["entry"] if one["search"]["mode"] == "match"] == ["k0"]
    assert not any(one["relation"] == "next" for one in second["link"])
    gateway = await as_gateway(app, hub)
    assert refusal(await gateway.get(following)) == (400, "query"), "somebody else's cursor"
    middle = len(following) - 20
    broken = following[:middle] + ("A" if following[middle] != "A" else "B") + following[middle + 1 :]
    assert refusal(await app.get(broken)) == (400, "query")
    assert refusal(await app.get(following + "&patient=pt2")) == (400, "query")
    assert refusal(await app.get("/Observation?colour=red")) == (400, "unsupported")
    _, lenient = await app.get("/Observation?colour=red&_count=1", Prefer="handling=lenient")
    assert lenient["entry"][-1]["search"]["mode"] == "outcome"
    assert (await app.get("/Observation?_summary=count&patient=pt1"))[1]["total"] == 4
    assert (await app.get(f"/Observation?_summary=count&patient={app.origin}/fhir/Patient/pt1"))[1]["total"] == 4
    for empty in ("date=,", "code=,", "patient=,", "_id=,", "name=,"):
        assert refusal(await app.get(f"/Observation?{empty}"))[0] == 400, "nothing asked is not everything"
    assert refusal(await app.get("/Observation?date=2025-13")) == (400, "query")


async def test_a_part_says_that_it_is_one_and_what_is_near_stays_near(hub: Hub, app: App) -> None:
    """[W18] `_elements` (R4 section 3.1.1.5.8) and `ap` of dates (3.1.1.4.6), one now for all pages of a search."""
    _, whole = await app.get("/Observation/k0")
    _, part = await app.get("/Observation/k0?_elements=value")
    assert part.keys() == {"resourceType", "id", "meta", "status", "code", "subject", "valueQuantity"} < whole.keys()
    assert (part["meta"]["versionId"], part["meta"]["tag"][-1]["code"]) == ("1", "SUBSETTED")
    assert refusal(await app.fhir("PUT", "/Observation/k0", part)) == (422, "invalid"), "it would end what it lacks"
    assert (await app.get("/Observation/k0/_history/1?_elements=value"))[1] == part
    assert (await app.get("/Observation/k0"))[1] == whole
    for bad in ("/Observation/k0?_elements=valueQuantity", "/Observation?_elements=code,colour"):
        assert refusal(await app.get(bad)) == (400, "query")
    _, page = await app.get("/Observation?_elements=value&_elements=code&_count=1&_include=Observation:patient")
    shown = {one["search"]["mode"]: one["resource"] for one in page["entry"]}
    assert shown["match"].keys() == part.keys()
    assert "name" in shown["include"], "what comes along comes whole"
    _, following = await app.get(next(one["url"] for one in page["link"] if one["relation"] == "next"))
    assert following["entry"][0]["resource"].keys() == part.keys()
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Observation?_id=k0&_elements=value"}}
    ]}  # fmt: skip
    _, done = await app.fhir("POST", "", batch)
    assert done["entry"][0]["resource"]["entry"][0]["resource"] == part
    # It is the middle of June: from February there is a tenth of 106 days on both sides, into January and March.
    asked = "/Observation?date=ap2025-02&_sort=date"
    assert await app.ids(asked) == ["k2", "k1"]
    _, page = await app.get(f"{asked}&_count=1")
    hub.clock.ms = 1_740_000_000_000
    assert await app.ids(asked) == ["k2"], "now it is February itself"
    more = await app.ids(next(one["url"] for one in page["link"] if one["relation"] == "next"))
    assert more == ["k1"], "a search goes on from when it began"
    assert refusal(await app.fhir("PUT", "/Observation?date=ap2021", whole)) == (400, "unsupported")


async def test_a_person_reaches_the_patients_of_her_consults_while_they_last(hub: Hub, app: App) -> None:
    """Whoever may not see a resource cannot tell it from one that does not exist."""
    await (await as_gateway(app, hub)).fhir("POST", "/Patient", without_id(patient("pt9", "王", "Wang X")))
    gateway = await as_gateway(app, hub)
    hidden = (await gateway.ids("/Patient"))[0]
    seen = (await gateway.fhir("POST", "/Observation", without_id(observation("x", hidden))))[1]["id"]
    for path in (f"/Patient/{hidden}", f"/Observation/{seen}", f"/Observation/{seen}/_history",
                 f"/Observation/{seen}/_history/1", f"/Patient/{hidden}/$everything"):  # fmt: skip
        assert await app.get(path) == await app.get(path.replace(hidden, "none").replace(seen, "none"))
        assert refusal(await app.get(path)) == (404, "not_found")
    for query in (f"patient={hidden}", f"_id={seen}", "patient=none"):
        assert await app.ids(f"/Observation?{query}") == []
    for method, path, body in (
        ("PUT", f"/Observation/{seen}", observation(seen, hidden)),
        ("PUT", "/Observation/none", observation("none", hidden)),
        ("DELETE", f"/Observation/{seen}", None),
        ("DELETE", "/Observation/none", None),
        ("POST", "/Observation", without_id(observation("x", hidden))),
        ("POST", "/Observation", without_id(observation("x", "none"))),
    ):
        assert refusal(await app.fhir(method, path, body)) == (404, "not_found"), (method, path)
    for known in (hidden, "none"):
        told = {"resourceType": "Provenance", "recorded": "2025-01-01T00:00:00Z", "agent": [{"who": {"display": "x"}}],
                "target": [{"reference": f"Patient/{known}"}]}  # fmt: skip
        assert refusal(await app.fhir("POST", "/Provenance", told)) == (404, "not_found")
    for known in (seen, "none"):
        told["target"] = [{"reference": f"Observation/{known}"}]
        assert refusal(await app.fhir("POST", "/Provenance", told)) == (422, "wrong_patient")
        linked = {**without_id(observation("x", "pt1")), "hasMember": [{"reference": f"Observation/{known}"}]}
        assert (await app.fhir("POST", "/Observation", linked))[0] == 201, "nor is it told by what may be referred to"
    assert await app.ids(f"/Patient?_has:Observation:patient:_id={seen}") == []
    for chain in ("Patient", "Patient:x"):
        assert await app.ids(f"/Observation?{chain.partition(':')[0].lower()}.name=Wang") == []
    own = {**without_id(observation("x", "pt1")), "derivedFrom": [{"reference": "Observation/other"}]}
    assert refusal(await app.fhir("POST", "/Observation", own)) == (422, "wrong_patient")
    moved = {**(await app.get("/Observation/k0"))[1], "subject": {"reference": "Patient/pt2"}}
    assert refusal(await app.fhir("PUT", "/Observation/k0", moved)) == (422, "wrong_patient")
    assert refusal(await app.fhir("POST", "/Patient", without_id(patient("x")))) == (403, "forbidden")
    assert sorted(await app.ids("/Patient")) == ["pt1", "pt2"]
    other = App(app.origin, app.http)
    await other.allowed(await hub.doctor("d2@hub"), hub, scope="user/*.rs", consult="")
    assert await other.ids("/Patient") == ["pt2"]
    await end(hub, "c2")
    assert await other.ids("/Patient") == [], "the consult is over, and with it the right"
    assert refusal(await other.get("/Patient/pt2")) == (404, "not_found")
    await end(hub, "c1")
    assert refusal(await app.get("/Patient/pt1")) == (401, "login"), "the launch context has ended"


async def test_scopes_that_are_too_small_are_told_and_patient_scopes_are_for_one(hub: Hub, app: App) -> None:
    doctor = await hub.doctor()
    await app.allowed(doctor, hub, scope="launch/patient patient/Observation.rs")
    assert sorted(await app.ids("/Observation?category=laboratory")) == ["k0", "k1", "k2"]
    assert refusal(await app.get("/Observation/other")) == (404, "not_found"), "another patient of the same consult"
    for method, path in (("GET", "/Patient/pt1"), ("GET", "/Patient/none"), ("GET", "/Condition"),
                         ("DELETE", "/Observation/k0"), ("GET", "/Patient/pt1/$everything")):  # fmt: skip
        assert refusal(await app.fhir(method, path)) == (403, "forbidden")
        assert "insufficient_scope" in app.headers["WWW-Authenticate"]
    _, page = await app.get("/Observation?_id=k0&_include=Observation:patient")
    assert [one["resource"]["resourceType"] for one in page["entry"]] == ["Observation"], "Patient is not covered"
    app.token = "x"
    assert refusal(await app.get("/Observation")) == (401, "login")
    app.token = "x" * 500
    assert refusal(await app.get("/Observation")) == (401, "login")


async def test_one_request_has_one_level_of_scopes(hub: Hub, app: App) -> None:
    """What is covered for "the patient" only is not shown of the others, by whatever way it would come along."""
    for whose in ("pt1", "pt2"):
        assert (await app.fhir("POST", "/Encounter", without_id(encounter("x", whose))))[0] == 201
    mixed = "launch/patient user/Patient.rs user/Observation.rs patient/Encounter.rs"
    await app.allowed(await hub.doctor(), hub, scope=mixed)
    assert sorted(await app.ids("/Patient")) == ["pt1", "pt2"]
    for path in ("/Patient?_revinclude=Encounter:patient", "/Patient?_has:Encounter:patient:status=finished",
                 "/Observation?encounter.status=finished"):  # fmt: skip
        assert refusal(await app.get(path)) == (403, "forbidden"), path
    for whose, kinds in (("pt1", {"Patient", "Observation"}), ("pt2", {"Patient", "Observation"})):
        _, page = await app.get(f"/Patient/{whose}/$everything")
        assert {one["resource"]["resourceType"] for one in page["entry"]} == kinds
    assert len(await app.ids("/Encounter")) == 1
    _, page = await app.get("/Encounter?patient.name=%E5%BC%A0&_include=Encounter:patient")
    assert [one["resource"]["resourceType"] for one in page["entry"]] == ["Encounter", "Patient"], "a wider one covers"
    asked = [("GET", "Encounter"), ("GET", "Patient?_revinclude=Encounter:patient"), ("GET", "Patient/pt2")]
    whole = {"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": method, "url": url}} for method, url in asked]}  # fmt: skip
    _, done = await app.fhir("POST", "", whole)
    assert [one["response"]["status"][:3] for one in done["entry"]] == ["200", "403", "200"]
    assert len(done["entry"][0]["resource"]["entry"]) == 1


async def test_a_condition_is_a_search_and_what_it_finds_a_reading(hub: Hub, app: App) -> None:
    """[G5] Who may only create learns nothing of what is there."""
    new, fits = without_id(observation("x", "pt1")), "code=http://loinc.org|2823-3&date=2025-02-01"
    assert (await app.fhir("POST", "/Observation", new, If_None_Exist=fits))[0] == 200
    async with hub.services.database.read() as session:
        last = await session.scalar(select(EventRow).order_by(EventRow.seq.desc()).limit(1))
    assert last is not None
    assert (last.kind, json.loads(last.body)["patients"]) == ("fhir_read", ["pt1"])
    doctor = await hub.doctor()
    await app.allowed(doctor, hub, scope="user/Observation.cs")
    assert await app.fhir("POST", "/Observation", new, If_None_Exist=fits) == (200, None)
    await app.allowed(doctor, hub, scope="user/Observation.cud")
    for method in ("POST", "PUT", "DELETE"):
        path = "/Observation" if method == "POST" else f"/Observation?{fits}"
        headers = {"If_None_Exist": fits} if method == "POST" else {}
        body = None if method == "DELETE" else new
        assert refusal(await app.fhir(method, path, body, **headers)) == (403, "forbidden")
    guess = {**new, "performer": [{"reference": "Organization?name=x"}]}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Observation"}, "resource": guess}]}  # fmt: skip
    assert refusal(await app.fhir("POST", "", bundle)) == (403, "forbidden")


async def test_hospitals_reach_what_came_from_them(hub: Hub, app: App) -> None:
    north, hub_gateway = await as_gateway(app, hub), await as_gateway(app, hub, "gw-hub")
    status, made = await north.fhir("POST", "/Patient", without_id(patient("m", "赵", "Zhao X")))
    assert status == 201
    assert await north.ids("/Patient?name=zhao") == [made["id"]]
    assert await hub_gateway.ids("/Patient") == []
    assert refusal(await hub_gateway.get(f"/Patient/{made['id']}")) == (404, "not_found")
    foreign = without_id(observation("x", made["id"]))
    assert refusal(await hub_gateway.fhir("POST", "/Observation", foreign)) == (404, "not_found")
    assert refusal(await north.fhir("POST", "/Observation", without_id(observation("x", "pt1")))) == (404, "not_found")
    assert await app.ids(f"/Patient?_id={made['id']}") == [], "not in a consult yet"


async def test_everything_of_a_patient_comes_in_pages(hub: Hub, app: App) -> None:
    await app.fhir("POST", "/Encounter", without_id(encounter("x", "pt1")))
    gathered, url = [], "/Patient/pt1/$everything?_count=2"
    while url:
        status, page = await app.get(url)
        assert status == 200
        gathered += [f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in page["entry"]]
        url = next((one["url"] for one in page["link"] if one["relation"] == "next"), "")
    assert len(gathered) == len(set(gathered)) == 7
    assert {one.partition("/")[0] for one in gathered} == {"Patient", "Observation", "Encounter", "Binary"}
    assert not any("other" in one for one in gathered)
    status, some = await app.get("/Patient/pt1/$everything?_type=Patient,Encounter&_since=2000-01-01")
    assert len(some["entry"]) == 1
    assert refusal(await app.get("/Patient/pt1/$everything?start=2000"))[1] == "unsupported"
    asked: dict[str, Any] = {"resourceType": "Parameters", "parameter": [
        {"name": "_type", "valueCode": "Patient"}, {"name": "_type", "valueCode": "Encounter"},
        {"name": "_count", "valueInteger": 1}]}  # fmt: skip
    status, page = await app.fhir("POST", "/Patient/pt1/$everything", asked)
    assert (status, page["entry"][0]["resource"]["resourceType"]) == (200, "Encounter")
    _, page = await app.get(next(one["url"] for one in page["link"] if one["relation"] == "next"))
    assert page["entry"][0]["resource"]["resourceType"] == "Patient"
    for wrong in ({"resourceType": "Patient"}, {**asked, "parameter": 1}):
        assert refusal(await app.fhir("POST", "/Patient/pt1/$everything", wrong)) == (400, "not_json")
    for wrong in ({**asked, "parameter": [{"name": "start", "valueDate": "2000"}]}, {**asked, "parameter": [7]}):
        assert refusal(await app.fhir("POST", "/Patient/pt1/$everything", wrong)) == (400, "unsupported")


async def test_every_reading_is_on_record_with_whose_it_was_and_without_what_it_said(hub: Hub, app: App) -> None:
    """[G5] [G8] Also what was not found; who only tried is on record too."""
    await app.get("/Observation/k0")
    await app.get("/Observation/none")
    await app.get("/Patient?name=%E5%BC%A0")
    async with hub.services.database.read() as session:
        rows = (
            await session.scalars(select(EventRow).where(EventRow.kind.like("fhir_%")).order_by(EventRow.seq))
        ).all()
    assert [(row.kind, row.actor, row.consult_id) for row in rows] == [
        ("fhir_read", "person:d1", "c1"),
        ("fhir_read", "person:d1", "c1"),
        ("fhir_search", "person:d1", "c1"),
    ]
    assert [json.loads(row.body)["patients"] for row in rows] == [["pt1"], [], ["pt1"]]
    assert json.loads(rows[2].body)["parameters"] == ["name"]
    assert not any("张" in row.body for row in rows)


async def test_bundles_are_all_or_nothing_and_batches_each_for_itself(hub: Hub, app: App) -> None:
    def entry(method: str, url: str, resource: Any = None) -> dict[str, Any]:
        return {"request": {"method": method, "url": url}, **({"resource": resource} if resource else {})}

    good, bad = without_id(observation("x", "pt1")), without_id(observation("x", "none"))
    whole = {"resourceType": "Bundle", "type": "transaction", "entry": [entry("POST", "Observation", good)]}
    before = await app.ids("/Observation")
    broken = {**whole, "entry": [*whole["entry"], entry("POST", "Observation", bad)]}
    status, told = await app.fhir("POST", "", broken)
    assert (status, told["issue"][0]["expression"]) == (404, ["Bundle.entry[1]"])
    assert await app.ids("/Observation") == before
    status, done = await app.fhir("POST", "", {**broken, "type": "batch", "entry": [
        *broken["entry"], entry("GET", "Patient/pt1"), entry("GET", "Observation?code=none"),
        entry("POST", "Observation", {**good, "status": 1}),
    ]})  # fmt: skip
    assert [one["response"]["status"][:3] for one in done["entry"]] == ["201", "404", "200", "200", "422"]
    assert done["entry"][2]["resource"]["id"] == "pt1"
    status, done = await app.fhir("POST", "", {**broken, "type": "batch", "entry": [
        entry("GET", "Observation?_count=2&_include=Observation:patient"), entry("PATCH", "Observation/k0"),
        entry("GET", "Unheard/x"), {}, entry("GET", "Observation/none"),
    ]})  # fmt: skip
    assert [one["response"]["status"][:3] for one in done["entry"]] == ["200", "400", "404", "400", "404"]
    page = done["entry"][0]["resource"]
    assert [one["search"]["mode"] for one in page["entry"]] == ["match", "match", "include"]
    assert page["entry"][0]["fullUrl"].startswith(f"{hub.origin}/fhir/Observation/")
    first, following = (one["url"] for one in page["link"])
    assert len(await app.ids(first)) == len(await app.ids(following)) == 2, "a page that is not the last says so"
    async with hub.services.database.read() as session:
        tried = select(EventRow.body).where(EventRow.kind == "fhir_read").order_by(EventRow.seq.desc()).limit(1)
        assert json.loads(await session.scalar(tried) or "")["resource"] == "none"
    read = entry("GET", "Patient/pt1")
    same = {"request": {**read["request"], "ifNoneMatch": 'W/"1"'}}
    create_only = entry("PUT", "Observation/k0", {**good, "id": "k0"})
    create_only["request"]["ifNoneMatch"] = "*"
    status, done = await app.fhir("POST", "", {**broken, "type": "batch", "entry": [read, same, create_only]})
    assert [one["response"]["status"][:3] for one in done["entry"]] == ["200", "304", "400"]
    assert "resource" not in done["entry"][1]
    assert len(await app.ids("/Observation")) == len(before) + 1
    gateway = await as_gateway(app, hub, scope="system/Observation.c")
    assert refusal(await gateway.fhir("POST", "", {**whole, "entry": [entry("DELETE", "Patient/pt1")]}))[0] == 403


async def test_pages_of_registered_apps_may_read_and_no_others(hub: Hub, app: App) -> None:
    """No cookie is looked at: a foreign page has only what it was given."""
    origin = REDIRECT.removesuffix("/callback")
    await app.get("/Observation/k0", Origin=origin)
    assert app.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in app.headers
    assert (await app.fhir("POST", "/Observation", without_id(observation("x", "pt1")), Origin=origin))[0] == 201
    await app.get("/Observation/k0", Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in app.headers
    doctor = await hub.doctor()
    assert (await doctor.get("/fhir/Observation/k0"))[0] == 401, "a cookie is no access token"


@pytest.mark.parametrize("name", ["patient_mi_riojas"])
async def test_a_real_record_is_imported_whole_or_not_at_all(hub: Hub, app: App, name: str) -> None:
    """A Synthea patient as it was exported: a transaction of over a hundred entries, references and all."""
    bundle = json.loads(shared(f"fhir/{name}.json").read_text(encoding="utf-8"))
    for one in bundle["entry"]:
        if one["resource"]["resourceType"] == "Patient":
            one["resource"]["id"] = "x"
    gateway = await as_gateway(app, hub)
    status, done = await gateway.fhir("POST", "", bundle)
    assert status == 200, done
    whose = next(
        one["response"]["location"] for one in done["entry"] if "/Patient/" in f"/{one['response']['location']}"
    )
    counted, url = 0, f"/Patient/{whose.split('/')[1]}/$everything?_count=60"
    while url:
        status, page = await gateway.get(url)
        counted += sum(one["search"]["mode"] == "match" for one in page["entry"])
        url = next((one["url"] for one in page["link"] if one["relation"] == "next"), "")
    kinds = [one["resource"]["resourceType"] for one in bundle["entry"]]
    assert counted == len(kinds) - kinds.count("Organization") - kinds.count("Practitioner")
    assert "urn:uuid:" not in json.dumps(page)
    broken = {**bundle, "entry": [*bundle["entry"], {"request": {"method": "POST", "url": "Condition"},
              "resource": {"resourceType": "Condition", "subject": {"reference": "urn:uuid:nobody"}}}]}  # fmt: skip
    before = (await gateway.get("/Patient?_summary=count"))[1]["total"]
    assert refusal(await gateway.fhir("POST", "", broken)) == (400, "unresolved")
    assert (await gateway.get("/Patient?_summary=count"))[1]["total"] == before
