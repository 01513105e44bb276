"""The patient banner from a FHIR Patient: two identifiers, name, sex and birth date (W18).

A patient may have a Chinese and a Latin name. The banner's ``name`` is the
Chinese one when there is one; of several, FHIR's order decides.
"""

from typing import Any

from pydantic import ValidationError

from signaling.core.ids import PatientId
from signaling.core.model import Identifier, PatientBanner


class BannerInvalid(ValueError):
    """The patient lacks what every screen must show; the text names the part, not its value."""


def banner_of(patient: dict[str, Any], *, test: bool) -> PatientBanner:
    """Banner of a Patient resource that has passed the FHIR models.

    Raises:
        BannerInvalid: no name, no full birth date, or fewer than two identifiers.
    """
    names = [text for text in map(_name_text, patient.get("name", [])) if text]
    if not names:
        raise BannerInvalid("Patient has no name")
    han = [name for name in names if not name.isascii()]
    latin = [name for name in names if name.isascii()]
    identifiers = [found for found in map(_identifier, patient.get("identifier", [])) if found is not None]
    if len(identifiers) < 2:
        raise BannerInvalid("Patient needs two identifiers with a value (W18)")
    try:
        return PatientBanner(
            id=PatientId(patient["id"]),
            name=(han or latin)[0],
            name_latin=latin[0] if han and latin else "",
            sex=patient.get("gender", "unknown"),
            birth_date=patient.get("birthDate", ""),
            identifiers=(identifiers[0], identifiers[1]),
            test=test,
        )
    except ValidationError as problem:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in problem.errors())
        raise BannerInvalid(f"Patient cannot be shown in a banner: {places}") from None


def _name_text(name: dict[str, Any]) -> str:
    if name.get("text"):
        return str(name["text"])
    family, given = str(name.get("family", "")), [str(part) for part in name.get("given", [])]
    if family.isascii():
        return " ".join(part for part in (*given, family) if part)
    return family + "".join(given)


def _identifier(identifier: dict[str, Any]) -> Identifier | None:
    value = identifier.get("value")
    if not value:
        return None
    kind = identifier.get("type", {})
    coding = kind.get("coding") or [{}]
    label = kind.get("text") or coding[0].get("display") or coding[0].get("code") or "ID"
    return Identifier(label=str(label)[:200], value=str(value)[:200])
