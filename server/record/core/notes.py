"""A note that was drawn on a page of the record, as a FHIR resource. [SH4] (C23)

A DocumentReference, because it is what R4 has for a document of a patient with an author, a time, what it is about
(``context.related``) and a status that can say "entered in error" without anything being taken away. A Communication is
a message from one to another and has no versions of a document; a Media is a picture of the patient. The drawing is an
SVG made here from numbers alone, so any FHIR reader can show it and nothing of a page's words is in it; how the page
was laid out is in an extension.
"""

import base64
import re
from typing import Any

from server.record.core.layout import instant
from server.record.core.resource import TEST_TAG
from signaling.core.messages import NoteMarkedInError
from signaling.core.model import Note, Page

KIND = ("urn:consilium:document", "page-note")
"""``category`` of a note: how a reader tells it from a hospital's document."""
PARTICIPANT = "urn:consilium:participant"
PAGE = "urn:consilium:page"
IN_ERROR = "urn:consilium:in-error"

RELATED = {
    Page.PROBLEMS: "Condition",
    Page.MEDICATIONS: "MedicationRequest",
    Page.ALLERGIES: "AllergyIntolerance",
    Page.REPORTS: "DiagnosticReport",
    Page.DOCUMENTS: "DocumentReference",
}
"""Pages whose opened entry is one resource."""
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_PEN = 'fill="none" stroke="#c2255c" stroke-width="28" stroke-linecap="round" stroke-linejoin="round"'


def svg_of(note: Note) -> str:
    """The strokes in units of the page; as wide as the page was."""
    bottom = 10_000 * note.shape.height // note.shape.width
    paths = "".join(f'<path d="{_path(stroke)}"/>' for stroke in note.strokes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10000 {bottom}" '
        f'width="{note.shape.width}" height="{note.shape.height}"><g {_PEN}>{paths}</g></svg>'
    )


def note_document(note: Note, *, test: bool) -> dict[str, Any]:
    """The DocumentReference of a note.

    Args:
        test: the patient is a test patient (W9).
    """
    item = _ID.match(note.view.item)
    related = RELATED.get(note.view.page)
    about = [{"reference": f"{related}/{item[0]}"}] if related is not None and item is not None else []
    tags = [{"system": TEST_TAG[0], "code": TEST_TAG[1]}] if test else []
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "id": note.id,
        "extension": [_page(note)],
        "status": "current",
        "docStatus": "final",
        "category": [{"coding": [{"system": KIND[0], "code": KIND[1], "display": "Note on a page of the record"}]}],
        "subject": {"reference": f"Patient/{note.patient}"},
        "date": instant(note.at_ms),
        "author": [
            {
                "identifier": {"system": PARTICIPANT, "value": note.by},
                "display": ", ".join(part for part in (note.by_name, note.by_hospital) if part),
            }
        ],
        "content": [
            {
                "attachment": {
                    "contentType": "image/svg+xml",
                    "data": base64.b64encode(svg_of(note).encode()).decode(),
                    "creation": instant(note.at_ms),
                }
            }
        ],
    }
    if note.text.strip():
        document["description"] = note.text
    if about:
        document["context"] = {"related": about}
    return document | ({"meta": {"tag": tags}} if tags else {})


def in_error(document: dict[str, Any], event: NoteMarkedInError) -> dict[str, Any]:
    """The next version of a note that was a mistake: everything stays, and it says who, when and why. [SH6] (C23)"""
    said = {
        "url": IN_ERROR,
        "extension": [
            {"url": "at", "valueInstant": instant(event.at_ms)},
            {"url": "by", "valueString": event.by_name},
            {"url": "reason", "valueString": event.reason},
        ],
    }
    return {**document, "status": "entered-in-error", "extension": [*document.get("extension", ()), said]}


def author_of(document: dict[str, Any]) -> str | None:
    """The participant who made a note; None when the document is no note."""
    kinds = [
        (coding.get("system"), coding.get("code"))
        for category in document.get("category", ())
        for coding in category.get("coding", ())
    ]
    if KIND not in kinds:
        return None
    known = [author.get("identifier", {}) for author in document.get("author", ())]
    return next((str(one["value"]) for one in known if one.get("system") == PARTICIPANT), None)


def _page(note: Note) -> dict[str, Any]:
    shape = note.shape
    return {
        "url": PAGE,
        "extension": [
            {"url": "page", "valueCode": note.view.page.value},
            *([{"url": "item", "valueString": note.view.item}] if note.view.item else []),
            {"url": "content", "valueCode": shape.content},
            {"url": "width", "valuePositiveInt": shape.width},
            {"url": "height", "valuePositiveInt": shape.height},
            {"url": "language", "valueCode": shape.language},
        ],
    }


def _path(stroke: tuple[int, ...]) -> str:
    points = list(zip(stroke[::2], stroke[1::2], strict=True))
    return "M" + "L".join(f"{x} {y}" for x, y in points)
