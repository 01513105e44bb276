"""The pack as FHIR: Composition, ServiceRequest, Provenance, and the document Bundle that is sent; pure.

The Bundle holds the resources as they were: what the expert reads does not change when the record goes on. It is kept
as text and known by its SHA-256, which is also in the audit chain. ``content_hash`` is of what was chosen, not of when:
a pack that would say the same again is not a new version.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.casepack.core.completeness import Finding, State
from server.casepack.core.evidence import PART_SYSTEM, Ref
from server.casepack.core.request import Request
from server.casepack.core.selection import CASE_PACK, Line, Selection
from server.casepack.core.tables import SECTIONS, Table
from server.record.core.layout import instant
from server.storage.chain import canonical_json

Json = dict[str, Any]

SECTION_TITLES = {
    "request": ("Request", "会诊申请"), "problems": ("Problems", "诊断与问题"), "medication": ("Medication", "用药"),
    "allergies": ("Allergies", "过敏"), "vitals": ("Vital signs", "生命体征"), "labs": ("Laboratory", "检验"),
    "imaging": ("Imaging", "影像"), "ecg": ("ECG", "心电图"), "documents": ("Documents", "文书"),
    "opinions": ("Prior opinions", "既往会诊意见"), "missing": ("Missing", "缺失项"),
}  # fmt: skip
_BASE = "https://consilium.example/fhir"
_SECTION = "https://consilium.example/fhir/case-pack-section"
_REFERRAL = {"system": "http://loinc.org", "code": "57133-1", "display": "Referral note"}
_CONSULT = {"system": "http://snomed.info/sct", "code": "11429006", "display": "Consultation"}
_PROVENANCE = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a pack is of, and by whom.

    Args:
        stem: of the ids of its resources; the same for all versions.
        test: the patient is no real person (W9).
        hospital: name of the sending hospital.
    """

    stem: str
    patient: str
    version: int
    title: str
    author: str
    hospital: str
    starts_at_ms: int
    at_ms: int
    test: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """What is stored when a pack is sent; the three resources are also in the bundle."""

    request: Json
    composition: Json
    provenance: Json
    bundle_text: str
    sha256: str


def content_hash(table: Table, request: Request, selection: Selection, findings: Sequence[Finding]) -> str:
    """Of what a pack says; the same for the same content at another time."""
    said = {
        "specialty": table.specialty,
        "request": request.model_dump(),
        "lines": [[line.section, *(ref.exact for ref in line.refs)] for line in selection.lines],
        "left_out": selection.left_out,
        "findings": [[one.part.key, one.state.value, one.evidence.exact if one.evidence else ""] for one in findings],
    }
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()


def compose(
    about: About,
    table: Table,
    request: Request,
    selection: Selection,
    findings: Sequence[Finding],
    patient: Mapping[str, Any],
    resources: Mapping[Ref, Mapping[str, Any]],
) -> Document:
    """Everything of one version.

    Args:
        resources: what the selection refers to.
    """
    asked = _service_request(about, request)
    composition = _composition(about, table, request, selection, findings)
    chosen = list(dict.fromkeys(ref for line in selection.lines for ref in line.refs))
    provenance = _provenance(about, chosen)
    entries = [composition, dict(patient), asked, *(dict(resources[ref]) for ref in chosen), provenance]
    bundle = {
        "resourceType": "Bundle",
        "identifier": {"system": _SECTION, "value": f"{about.stem}-{about.version}"},
        "type": "document",
        "timestamp": instant(about.at_ms),
        "entry": [{"fullUrl": f"{_BASE}/{one['resourceType']}/{one['id']}", "resource": one} for one in entries],
    }
    text = canonical_json(bundle)
    return Document(asked, composition, provenance, text, hashlib.sha256(text.encode()).hexdigest())


def _marked(about: About, resource: Json) -> Json:
    if about.test:
        tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
        resource["meta"] = {"tag": [tag]}
    return resource


def _service_request(about: About, request: Request) -> Json:
    """C25 as FHIR: reason, purpose, time, summary, wanted speciality and title."""
    wanted = {"text": " · ".join(part for part in (request.speciality, request.title) if part) or "-"}
    notes = [("Purpose", request.purpose), ("Summary", request.summary)]
    return _marked(about, {
        "resourceType": "ServiceRequest",
        "id": f"{about.stem}-{about.version}",
        "status": "active",
        "intent": "order",
        "category": [{"coding": [_CONSULT]}],
        "subject": {"reference": f"Patient/{about.patient}"},
        "authoredOn": instant(about.at_ms),
        "occurrenceDateTime": instant(about.starts_at_ms),
        "requester": {"display": about.author},
        "performerType": wanted,
        "reasonCode": [{"text": request.reason or "-"}],
        "note": [{"text": f"{name}: {text}"} for name, text in notes if text.strip()],
    })  # fmt: skip


def _composition(
    about: About, table: Table, request: Request, selection: Selection, findings: Sequence[Finding]
) -> Json:
    by_section: dict[str, list[Line]] = {name: [] for name in SECTIONS}
    for line in selection.lines:
        by_section[line.section].append(line)
    said = "\n".join(text for text in (request.reason, request.purpose, request.summary) if text.strip())
    reference = f"ServiceRequest/{about.stem}-{about.version}"
    sections = [_section("request", said, [reference])]
    for name in SECTIONS:
        if by_section[name]:
            refs = [ref.plain for line in by_section[name] for ref in line.refs]
            sections.append(_section(name, "", list(dict.fromkeys(refs))))
    sections.append(
        _section("missing", "\n".join(_missing_line(one) for one in findings if one.state is not State.PRESENT))
    )
    composition: Json = {
        "resourceType": "Composition",
        "id": f"{about.stem}-{about.version}",
        "status": "final",
        "type": {"coding": [{"system": CASE_PACK[0], "code": CASE_PACK[1], "display": "Case pack"}, _REFERRAL]},
        "category": [{"text": table.en}],
        "subject": {"reference": f"Patient/{about.patient}"},
        "date": instant(about.at_ms),
        "author": [{"display": f"{about.author}, {about.hospital}"}],
        "title": about.title,
        "section": sections,
    }
    if about.version > 1:
        former = {"reference": f"Composition/{about.stem}-{about.version - 1}"}
        composition["relatesTo"] = [{"code": "replaces", "targetReference": former}]
    return _marked(about, composition)


def _section(name: str, text: str, refs: Sequence[str] = ()) -> Json:
    en, zh = SECTION_TITLES[name]
    section: Json = {"title": f"{en} {zh}", "code": {"coding": [{"system": _SECTION, "code": name, "display": en}]}}
    if text:
        section["text"] = {"status": "generated", "div": _div(text)}
    if refs:
        section["entry"] = [{"reference": ref} for ref in refs]
    if not text and not refs:
        section["emptyReason"] = {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/list-empty-reason", "code": "nilknown"}]
        }
    return section


def _div(text: str) -> str:
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    clean = "".join(char for char in plain if char in "\n\t" or char.isprintable())
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{clean.replace(chr(10), "<br/>")}</div>'


def _missing_line(one: Finding) -> str:
    return f"{one.part.zh} {one.part.en}: {one.state.value} ({one.why.value})"


def _provenance(about: About, chosen: Sequence[Ref]) -> Json:
    """What the pack was made of, by version, and when."""
    return {
        "resourceType": "Provenance",
        "id": f"{about.stem}-{about.version}",
        "target": [{"reference": f"Composition/{about.stem}-{about.version}"}],
        "recorded": instant(about.at_ms),
        "agent": [
            {
                "type": {"coding": [{"system": _PROVENANCE, "code": "assembler"}]},
                "who": {"display": f"{about.author}, {about.hospital}"},
            }
        ],
        "entity": [{"role": "source", "what": {"reference": ref.exact}} for ref in chosen],
    }


def ask_task(about: About, part: str, words: tuple[str, str], owner: str, note: str, request: str | None) -> Json:
    """A Task for the hospital that is asked for a part.

    Args:
        words: the part in English and Chinese.
        owner: name of the asked hospital.
        request: ``ServiceRequest/id`` of the pack that it is for, where one was sent.
    """
    en, zh = words
    task: Json = {
        "resourceType": "Task",
        "id": about.stem,
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": PART_SYSTEM, "code": part, "display": en}], "text": zh},
        "for": {"reference": f"Patient/{about.patient}"},
        "authoredOn": instant(about.at_ms),
        "lastModified": instant(about.at_ms),
        "requester": {"display": f"{about.author}, {about.hospital}"},
        "owner": {"display": owner},
    }
    if note:
        task["note"] = [{"text": note}]
    if request is not None:
        task["focus"] = {"reference": request}
        task["basedOn"] = [{"reference": request}]
    return _marked(about, task)


def closed_task(task: Mapping[str, Any], *, at_ms: int, reason: str | None, outputs: Sequence[str]) -> Json:
    """The Task answered, or declined with a reason (C26)."""
    closed = {name: value for name, value in task.items() if name != "meta"} | {
        "status": "completed" if reason is None else "rejected",
        "lastModified": instant(at_ms),
    }
    tags = (task.get("meta") or {}).get("tag")
    if tags:
        closed["meta"] = {"tag": tags}
    if reason is not None:
        closed["statusReason"] = {"text": reason}
    if outputs:
        kind = {"text": "answer"}
        closed["output"] = [{"type": kind, "valueReference": {"reference": ref}} for ref in outputs]
    return closed
