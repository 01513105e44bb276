"""HL7 v2 messages of our own for tests, and what is checked about every bundle."""

import importlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from server.gateway.core.crossing import Crossing, LockRefused, Receipt, check_crossing
from server.gateway.hl7v2.convert import Converted, convert
from server.gateway.hl7v2.message import parse
from server.gateway.hl7v2.profile import Profile

MRN = "urn:oid:2.999.1.1"
OLD = "urn:oid:2.999.1.2"
PROFILE = Profile(
    hospital="h-wuzhen",
    authorities={"HIS": MRN, "OLDHIS": OLD, "2.999.9/SB": "urn:oid:2.999.9", "LIS": "urn:oid:2.999.1.7"},
    default_authority=MRN,
    national_id_system="http://example.org/national-id",
    test_patients=frozenset({(MRN, "TEST-1")}),
    coding_systems={"99LAB": "http://example.org/lab"},
    categories={"LIS": "laboratory"},
)

MSH = "MSH|^~\\&|{app}|H1|GW|HUB|20260314150926+0800||{kind}|{control}|{processing}|2.5.1||||||{charset}"
PID = (
    "PID|1||10042^^^HIS^MR||王^小明^^^^^L^I~Wang^Xiaoming^^^^^L^A||19780302|1|||Xinhua Rd 12^^Jiaxing^Zhejiang^314500^CN^H"  # noqa: E501 -- a segment is one line
    "||^PRN^CP^^86^^13800000000||zh|M||A778|330402197803020011"
)
PV1 = "PV1|1|I|W3^12^B^H1||| ^^^|D7^Li^Wei^^^Dr||||||||||||V55^^^HIS^VN|||||||||||||||||||||||||20260314090000"


def message(kind: str, *segments: str, control: str = "C1", processing: str = "P", charset: str = "UNICODE UTF-8",
            app: str = "HIS", pid: str = PID) -> bytes:  # fmt: skip
    """A message of a kind (``ADT^A01``) with PID and the given segments, CR between them, UTF-8."""
    event = kind.partition("^")[2]
    head = MSH.format(kind=f"{kind}^{kind.replace('^', '_')}", control=control, processing=processing,
                      charset=charset, app=app)  # fmt: skip
    lines = [head, f"EVN|{event}|20260314150926", pid, *segments]
    return ("\r".join(line for line in lines if line) + "\r").encode()


def converted(data: bytes, profile: Profile = PROFILE) -> Converted:
    """Through the whole package, with the checks that hold for every message."""
    made = convert(parse(data, default_charset=profile.charset), profile)
    check(made)
    return made


def check(made: Converted) -> None:
    """Every bundle is FHIR R4, whole, of one patient, and may cross."""
    bundle = made.bundle
    model("Bundle").model_validate(bundle)
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(urls) == len(set(urls))
    known = {e["request"]["url"] for e in bundle["entry"]} | set(urls)
    patients = [e for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient"]
    assert len(patients) == 1
    for entry in bundle["entry"]:
        resource = entry["resource"]
        _no_empty(resource)
        model(resource["resourceType"]).model_validate(resource)
        assert {one for one in references(resource) if one} <= known
        if resource["resourceType"] != "Patient":
            about = resource.get("subject") or resource.get("patient") or resource.get("for")
            about = about or resource.get("securityContext") or resource["participant"][0]["actor"]
            assert about == {"reference": patients[0]["fullUrl"]}
    check_crossing(made.crossing())


def model(kind: str) -> Any:
    """The R4B model of a type; one module each, since all of them take seconds."""
    return getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def references(value: Any) -> Iterable[str]:
    """Every literal reference in a resource."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def _no_empty(value: Any) -> None:
    assert value not in (None, "", [], {}), "FHIR has no empty elements"
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _no_empty(one)


def resources(made: Converted, kind: str) -> list[dict[str, Any]]:
    """The bundle's resources of a type, in order."""
    found = [entry["resource"] for entry in made.bundle["entry"]]
    return [one for one in found if one["resourceType"] == kind]


def only(made: Converted, kind: str) -> dict[str, Any]:
    """The one resource of a type."""
    (found,) = resources(made, kind)
    return found


def request(made: Converted, kind: str) -> dict[str, Any]:
    """The request of the one entry of a type."""
    (found,) = [e["request"] for e in made.bundle["entry"] if e["resource"]["resourceType"] == kind]
    return found


class Shelf:
    """An outlet that keeps crossings in memory, by the journal's rules for keys."""

    def __init__(self) -> None:
        self.kept: list[Crossing] = []
        self.refuse: LockRefused | None = None

    async def put(self, crossing: Crossing) -> Receipt:
        check_crossing(crossing)
        if self.refuse is not None:
            raise self.refuse
        for number, one in enumerate(self.kept):
            if one.key == crossing.key:
                assert one.body == crossing.body, "a repeat is the same message, byte for byte"
                return Receipt(sequence=number, repeated=True)
        self.kept.append(crossing)
        return Receipt(sequence=len(self.kept) - 1, repeated=False)


NOW = datetime(2026, 3, 14, 7, 9, 26, tzinfo=UTC)
ORDER = (
    "ORC|NW|P9^HIS||||||20260315|20260314100000|||D7^Li^Wei",
    "OBR|1|P9^HIS||24725-4^CT head^LN||||||||||||D7^Li^Wei",
)
RESULT = (
    "OBR|1|P9^HIS|F77^LIS|24323-8^Metabolic panel^LN|||20260314080000|||||||||||||||20260314093000||HM|F||||||||&Li&Wei",  # noqa: E501 -- a segment is one line
    "OBX|1|NM|2160-0^Creatinine^LN||88.5|umol/L^^UCUM|44-97|N|||F|||20260314081500",
    "OBX|2|SN|5048-4^ANA^LN||^1^:^160||||||C",
    "NTE|1||seen",
    "OBX|3|ED|PDF^Report^L||^application^pdf^Base64^JVBERi0xLjc=||||||F",
    "OBX|4|TX|C^Comment^L||a\\.br\\b||||||F",
    "OBX|5|CWE|600-7^Culture^LN||1^Staph^SCT||||||F",
)
SEEDS = (
    message("ADT^A01", PV1, "AL1|1|DA|7980^Penicillin^RXNORM|SV|rash", "DG1|1||I21.0^STEMI^I10|||F",
            "NK1|1|Wang^Li|SPO^Spouse|Road 1|^PRN^PH^^86^573^88000"),
    message("ADT^A02", PV1), message("ADT^A03", PV1), message("ADT^A40", "MRG|77^^^OLDHIS^MR"),
    message("ORU^R01", PV1, *RESULT), message("ORM^O01", *ORDER), message("OML^O21", *ORDER, "TQ1|1||||||20260315||S"),
    message("MDM^T02", "TXA|1|DS^Discharge^L|TX|20260314||20260314151000|||D7^Li|||DOC-5^HIS|||||LA|R|AV",
            "OBX|1|TX|T^T^L||text||||||F"),
    message("SIU^S12", "SCH|P3^HIS|F3^HIS|||||P^Pain^L|FU|30|min|^^^20260320140000^20260320143000", "AIS|1||C^C^L|20260320",  # noqa: E501 -- a segment is one line
            "AIP|1||D7^Li^Wei"),
    message("REF^I12", "RF1|P|A|Med^Medical^L|||R-8^HIS|20260314|20260401|20260314", "PRD|RP|Chen^Yu", *RESULT),
    message("RDE^O11", "ORC|NW|RX5^HIS|||||||20260314", "TQ1|1||BID||||20260314|20260321",
            "RXE||1191^Aspirin^RXNORM|75|100|mg^mg^UCUM||^with food||N|14|tab|2", "RXR|PO^Oral^L", "RXC|A|1^X^L|5|mg"),
)  # fmt: skip
"""One good message of every family, short enough to be changed."""
