"""What stands inside the simulated partner hospital: a laboratory that sends HL7 v2, and a FHIR server.

The laboratory sends one of a few results of the patient whose ECG is simulated, about once a minute, and now and then
an admission's update of somebody whom no consult concerns. The FHIR server holds what is older than the hub's
record: the same stories, a year earlier. It knows what the gateway's client asks (`POST .../_search`, reads), no more.
"""

import asyncio
import contextlib
import functools
import json
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import structlog
from aiohttp import web

from server.demo import patients
from server.gateway.hl7v2.framing import frame

log = structlog.get_logger(__name__)

MRN, NATIONAL_ID = "urn:consilium:demo:mrn", "urn:consilium:demo:national-id"
FIRST_S, EVERY_S, ANSWER_S = 5.0, 60.0, 20.0
ADT_EVERY = 5
EARLIER = timedelta(days=365)
_CR = "\r"


class Laboratory:
    """Sends results until cancelled; one that was not answered AA goes again under the same control id."""

    visitor: ClassVar[tuple[tuple[str, str], ...]] = ((MRN, "T-0900-01"), (NATIONAL_ID, "TEST-19800101-0009"))
    """Of whom the admissions are: a sample patient of no consult."""
    TESTS: ClassVar[tuple[tuple[str, str, str, float, float, float, str], ...]] = (
        ("2823-3", "Potassium 血钾", "mmol/L", 3.5, 5.3, 4.3, "K"),
        ("67151-1", "Troponin T hs 高敏肌钙蛋白T", "ng/L", 0.0, 14.0, 11.0, "TNT"),
        ("2160-0", "Creatinine 肌酐", "umol/L", 41.0, 81.0, 68.0, "CREA"),
    )
    """LOINC, name, unit, low, high, usual value, local code."""

    def __init__(self, host: str, port: int, now_us: Callable[[], int], every_s: float = EVERY_S) -> None:
        self._host, self._port, self._now_us, self._every_s = host, port, now_us, every_s
        self._random = random.Random(20)

    async def run(self) -> None:
        """Send until cancelled."""
        await asyncio.sleep(min(FIRST_S, self._every_s))
        number = 0
        while True:
            number += 1
            id_ = f"D{self._now_us()}"
            message = self._admission(id_) if number % ADT_EVERY == 0 else self._result(id_, number)
            taken = False
            while not taken:
                taken = await self._taken(message, id_)
                await asyncio.sleep(self._every_s if taken else min(FIRST_S, self._every_s))

    async def _taken(self, message: str, id_: str) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                with contextlib.closing(writer):
                    writer.write(frame(message.encode()))
                    answer = await reader.readuntil(b"\x1c\r")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False
        if f"MSA|AA|{id_}".encode() in answer:
            return True
        log.warning("the sample laboratory was refused", control=id_)
        return b"MSA|AR|" in answer  # of no use again

    def _result(self, id_: str, number: int) -> str:
        loinc, name, unit, low, high, usual, local = self.TESTS[number % len(self.TESTS)]
        value = round(usual * self._random.uniform(0.9, 1.15), 1)
        flag = "H" if value > high else "L" if value < low else "N"
        at = _time(self._now_us() / 1e6)
        person = earlier()[0][0]
        mrn, national = (one["value"] for one in person["identifier"])
        family, given = person["name"][0]["family"], person["name"][0]["given"][0]
        born = person["birthDate"].replace("-", "")
        sex = "F" if person["gender"] == "female" else "M"
        return _CR.join((
            _msh("LIS", "ORU^R01^ORU_R01", id_, at),
            f"PID|1||{mrn}^^^HIS^MR~{national}^^^ID^NI||{family}^{given}||{born}|{sex}",
            f"OBR|1||{id_}|{local}^{name}^L|||{at}|||||||||||||||{at}||LAB|F",
            f"OBX|1|NM|{loinc}^{name}^LN||{value}|{unit}|{low:g}-{high:g}|{flag}|||F|||{at}",
            "",
        ))  # fmt: skip

    def _admission(self, id_: str) -> str:
        at = _time(self._now_us() / 1e6)
        (_, mrn), (_, national) = self.visitor
        return _CR.join((
            _msh("HIS", "ADT^A08^ADT_A01", id_, at),
            f"EVN||{at}",
            f"PID|1||{mrn}^^^HIS^MR~{national}^^^ID^NI||示例^访客||19800101|M",
            "PV1|1|O",
            "",
        ))  # fmt: skip


def _msh(sender: str, kind: str, id_: str, at: str) -> str:
    return f"MSH|^~\\&|{sender}|PARTNER|CONSILIUM|HUB|{at}||{kind}|{id_}|T|2.5.1||||||UNICODE UTF-8"


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).astimezone(patients.CHINA).strftime("%Y%m%d%H%M%S%z")


@contextlib.asynccontextmanager
async def record_server(host: str) -> AsyncIterator[str]:
    """The hospital's FHIR server; its base address."""
    app = web.Application()
    app.add_routes((web.post("/fhir/{type}/_search", _search), web.get("/fhir/{type}/{id}", _read)))
    app[_RECORD] = await asyncio.to_thread(older_record)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://{host}:{port}/fhir"
    finally:
        await runner.cleanup()


@functools.cache
def earlier() -> list[list[dict[str, Any]]]:
    """Each patient's resources of a year ago, the Patient first; made once, their pictures take a while."""
    return [patients.bundle(name, patients.today() - EARLIER) for name in patients.STORIES]


def older_record() -> list[dict[str, Any]]:
    """The patients, and their stories a year earlier under ids of the hospital's own."""
    found: list[dict[str, Any]] = []
    for person, *rest in earlier():
        found.append(person)
        found += [{**one, "id": f"h-{one['id']}"[:64]} for one in rest]
    return found


_RECORD: web.AppKey[list[dict[str, Any]]] = web.AppKey("record", list)


async def _search(request: web.Request) -> web.Response:
    form = await request.post()
    kind, asked = request.match_info["type"], {name: str(value) for name, value in form.items()}
    found = [one for one in request.app[_RECORD] if one["resourceType"] == kind and _matches(one, asked)]
    found.sort(key=_date, reverse=True)
    entries = [{"resource": one, "search": {"mode": "match"}} for one in found[: int(asked.get("_count", "100"))]]
    return _fhir({"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": entries})


async def _read(request: web.Request) -> web.Response:
    wanted = (request.match_info["type"], request.match_info["id"])
    for one in request.app[_RECORD]:
        if (one["resourceType"], one["id"]) == wanted:
            return _fhir(one)
    raise web.HTTPNotFound


def _matches(resource: dict[str, Any], asked: dict[str, str]) -> bool:
    """By identifier, patient, code, category and type; what else was asked leaves nothing out."""
    if "identifier" in asked:
        pairs = {f"{one.get('system')}|{one.get('value')}" for one in resource.get("identifier", [])}
        if asked["identifier"] not in pairs:
            return False
    if "patient" in asked and resource.get("subject", {}).get("reference") != f"Patient/{asked['patient']}":
        return False
    return all(
        asked[name].rpartition("|")[2] == "" or set(_codes(resource.get(name))) & _values(asked[name])
        for name in ("code", "category", "type")
        if name in asked
    )


def _values(text: str) -> set[str]:
    return {one.rpartition("|")[2] for one in text.split(",")}


def _codes(value: Any) -> list[str]:
    concepts = value if isinstance(value, list) else [value or {}]
    return [str(coding.get("code")) for one in concepts for coding in one.get("coding", [])]


def _date(resource: dict[str, Any]) -> str:
    names = ("effectiveDateTime", "authoredOn", "recordedDate", "date", "onsetDateTime")
    return next((str(resource[name]) for name in names if name in resource), "")


def _fhir(value: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps(value, ensure_ascii=False), content_type="application/fhir+json")
