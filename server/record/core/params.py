"""Which resource types the record keeps, and what each can be searched by.

One table for everything that has to agree: what is taken out of a resource for
the index, what a query may name, what the CapabilityStatement says. Names and
meanings are those of the R4 search parameter registry.

A path is dotted; arrays on the way are walked. ``value[x]`` types are spelled out
as the JSON spells them. Of several paths all count, except for the clinical
date, where the first that is there does.
"""

from dataclasses import dataclass

TOKEN, DATE, REFERENCE, STRING, QUANTITY, COMPOSITE = "token", "date", "reference", "string", "quantity", "composite"


@dataclass(frozen=True, slots=True)
class Param:
    """One search parameter of one type.

    Args:
        targets: types that a reference given as a bare id may mean; one where it is clear.
        wide: also found without naming a patient (by a hospital, of all its own).
        clinical: the date that the type is sorted by, and that lies in every index row.
        compartment: the patient whose record the resource is part of: not indexed, it is the partition.
        bare: codes that stand without a system, which FHIR gives them: it may be asked for with it.
        parts: of a composite, the two parameters that must fit in one resource; it has no paths, and no index rows.
    """

    kind: str
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()
    wide: bool = False
    clinical: bool = False
    compartment: bool = False
    bare: bool = False
    parts: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TypeRules:
    """One resource type.

    Args:
        patient: paths of the reference to the patient whose compartment it lies in; empty for the directory.
    """

    patient: tuple[str, ...]
    params: dict[str, Param]


def _token(*paths: str, wide: bool = False) -> Param:
    return Param(TOKEN, paths, wide=wide)


def _bare(*paths: str) -> Param:
    return Param(TOKEN, paths, bare=True)


def _code(*paths: str) -> Param:
    return Param(TOKEN, paths, wide=True)


def _when(*paths: str) -> Param:
    return Param(DATE, paths, clinical=True)


def _date(*paths: str) -> Param:
    return Param(DATE, paths)


def _to(path: str, *targets: str) -> Param:
    return Param(REFERENCE, (path,), targets)


def _text(*paths: str) -> Param:
    return Param(STRING, paths, wide=True)


def _quantity(*paths: str) -> Param:
    return Param(QUANTITY, paths)


def _both(token: str, quantity: str) -> Param:
    """A code and the quantity beside it. Right where a resource has one of each, however many codings its code has."""
    return Param(COMPOSITE, (), parts=(token, quantity))


IDENTIFIER = _token("identifier", wide=True)
STATUS = _bare("status")
SUBJECT = ("subject",)


def _clinical(patient: tuple[str, ...] = SUBJECT, **params: Param) -> TypeRules:
    """A type of the patient's compartment; ``patient`` is a parameter of all of them."""
    named = {name.rstrip("_").replace("_", "-"): param for name, param in params.items()}
    link = Param(REFERENCE, patient, ("Patient",), compartment=True)
    links = {"patient": link, "subject": link} if patient == SUBJECT else {"patient": link}
    return TypeRules(patient, {"identifier": IDENTIFIER, **links, **named})


def _directory(**params: Param) -> TypeRules:
    named = {name.rstrip("_").replace("_", "-"): param for name, param in params.items()}
    return TypeRules((), {"identifier": IDENTIFIER, **named})


_ENCOUNTER = _to("encounter", "Encounter")

TYPES: dict[str, TypeRules] = {
    "Patient": TypeRules(
        ("",),
        {
            "identifier": IDENTIFIER,
            "active": _bare("active"),
            "gender": _bare("gender"),
            "birthdate": _when("birthDate"),
            "death-date": _date("deceasedDateTime"),
            "name": _text("name.text", "name.family", "name.given"),
            "family": _text("name.family"),
            "given": _text("name.given"),
            "organization": _to("managingOrganization", "Organization"),
            "general-practitioner": _to("generalPractitioner"),
            "link": _to("link.other"),
        },
    ),
    "Practitioner": _directory(
        active=_bare("active"), name=_text("name.text", "name.family", "name.given"), family=_text("name.family")
    ),
    "PractitionerRole": _directory(
        practitioner=_to("practitioner", "Practitioner"),
        organization=_to("organization", "Organization"),
        specialty=_code("specialty"),
        role=_code("code"),
        active=_bare("active"),
    ),
    "Organization": _directory(name=_text("name", "alias"), type_=_code("type"), active=_bare("active"),
                               partof=_to("partOf", "Organization")),
    "Location": _directory(name=_text("name", "alias"), type_=_code("type"), status=STATUS,
                           organization=_to("managingOrganization", "Organization")),
    "HealthcareService": _directory(name=_text("name"), specialty=_code("specialty"), active=_bare("active"),
                                    organization=_to("providedBy", "Organization")),
    "Medication": _directory(code=_code("code"), status=STATUS),
    "Schedule": _directory(actor=_to("actor"), active=_bare("active"), date=_when("planningHorizon")),
    "Slot": _directory(schedule=_to("schedule", "Schedule"), status=STATUS, start=_when("start")),
    "Encounter": _clinical(
        status=STATUS, class_=_token("class"), type_=_code("type"), date=_when("period"),
        participant=_to("participant.individual"), location=_to("location.location", "Location"),
        service_provider=_to("serviceProvider", "Organization"), reason_code=_code("reasonCode"),
    ),
    "Condition": _clinical(
        code=_code("code"), category=_token("category"), clinical_status=_token("clinicalStatus"),
        verification_status=_token("verificationStatus"), severity=_token("severity"), encounter=_ENCOUNTER,
        onset_date=_when("onsetDateTime", "onsetPeriod", "recordedDate"), recorded_date=_date("recordedDate"),
        abatement_date=_date("abatementDateTime", "abatementPeriod"),
    ),
    "AllergyIntolerance": _clinical(
        ("patient",), code=_code("code", "reaction.substance"), category=_bare("category"), type_=_bare("type"),
        criticality=_bare("criticality"), clinical_status=_token("clinicalStatus"),
        verification_status=_token("verificationStatus"), date=_when("recordedDate", "onsetDateTime"),
    ),
    "MedicationRequest": _clinical(
        code=_code("medicationCodeableConcept"), status=STATUS, intent=_bare("intent"), category=_token("category"),
        authoredon=_when("authoredOn"), encounter=_ENCOUNTER, medication=_to("medicationReference", "Medication"),
        requester=_to("requester"),
    ),
    "MedicationStatement": _clinical(
        code=_code("medicationCodeableConcept"), status=STATUS, category=_token("category"),
        effective=_when("effectiveDateTime", "effectivePeriod", "dateAsserted"),
        medication=_to("medicationReference", "Medication"),
    ),
    "Observation": _clinical(
        code=_code("code"), category=_token("category"), status=STATUS, encounter=_ENCOUNTER,
        date=_when("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming", "issued"),
        performer=_to("performer"), specimen=_to("specimen", "Specimen"), device=_to("device"),
        has_member=_to("hasMember"), derived_from=_to("derivedFrom"), component_code=_code("component.code"),
        value_concept=_token("valueCodeableConcept"), based_on=_to("basedOn"),
        value_quantity=_quantity("valueQuantity"), component_value_quantity=_quantity("component.valueQuantity"),
        code_value_quantity=_both("code", "value-quantity"),
    ),
    "DiagnosticReport": _clinical(
        code=_code("code"), category=_token("category"), status=STATUS, encounter=_ENCOUNTER,
        date=_when("effectiveDateTime", "effectivePeriod", "issued"), issued=_date("issued"),
        result=_to("result", "Observation"), performer=_to("performer"), based_on=_to("basedOn"),
        conclusion=_code("conclusionCode"), media=_to("media.link", "Media"),
    ),
    "DocumentReference": _clinical(
        type_=_code("type"), category=_token("category"), status=STATUS, date=_when("date"),
        encounter=_to("context.encounter"), author=_to("author"), period=_date("context.period"),
        contenttype=_token("content.attachment.contentType"), related=_to("context.related"),
    ),
    "Binary": TypeRules(("securityContext",), {"contenttype": _token("contentType")}),
    "Media": _clinical(
        type_=_code("type"), status=STATUS, encounter=_ENCOUNTER, modality=_code("modality"),
        created=_when("createdDateTime", "createdPeriod", "issued"),
    ),
    "ImagingStudy": _clinical(
        status=STATUS, started=_when("started"), modality=_code("modality"), encounter=_ENCOUNTER,
        series=_token("series.uid"), bodysite=_token("series.bodySite"), basedon=_to("basedOn"),
    ),
    "Procedure": _clinical(
        code=_code("code"), category=_token("category"), status=STATUS, encounter=_ENCOUNTER,
        date=_when("performedDateTime", "performedPeriod"),
    ),
    "Immunization": _clinical(
        ("patient",), vaccine_code=_code("vaccineCode"), status=STATUS, date=_when("occurrenceDateTime"),
    ),
    "CarePlan": _clinical(
        category=_token("category"), status=STATUS, intent=_bare("intent"), date=_when("period", "created"),
        encounter=_ENCOUNTER, care_team=_to("careTeam", "CareTeam"), condition=_to("addresses", "Condition"),
    ),
    "CareTeam": _clinical(
        category=_token("category"), status=STATUS, date=_when("period"), participant=_to("participant.member"),
        encounter=_ENCOUNTER,
    ),
    "Goal": _clinical(
        category=_token("category"), lifecycle_status=_bare("lifecycleStatus"), start_date=_when("startDate"),
    ),
    "ServiceRequest": _clinical(
        code=_code("code"), category=_token("category"), status=STATUS, intent=_bare("intent"),
        authored=_when("authoredOn", "occurrenceDateTime", "occurrencePeriod"), encounter=_ENCOUNTER,
        occurrence=_date("occurrenceDateTime", "occurrencePeriod"), requester=_to("requester"),
        performer=_to("performer"), priority=_bare("priority"),
    ),
    "Task": _clinical(
        ("for",), code=_code("code"), status=STATUS, intent=_bare("intent"), priority=_bare("priority"),
        authored_on=_when("authoredOn", "executionPeriod"), modified=_date("lastModified"),
        focus=_to("focus"), owner=_to("owner"), requester=_to("requester"), encounter=_ENCOUNTER,
        based_on=_to("basedOn"),
    ),
    "Appointment": _clinical(
        ("participant.actor",), status=STATUS, date=_when("start"), actor=_to("participant.actor"),
        service_type=_code("serviceType"), specialty=_code("specialty"), slot=_to("slot", "Slot"),
        location=Param(REFERENCE, ("participant.actor",), ("Location",)),
        practitioner=Param(REFERENCE, ("participant.actor",), ("Practitioner",)),
    ),
    "Specimen": _clinical(
        type_=_code("type"), status=STATUS, accession=_token("accessionIdentifier", wide=True),
        collected=_when("collection.collectedDateTime", "collection.collectedPeriod", "receivedTime"),
    ),
    "Composition": _clinical(
        type_=_code("type"), category=_token("category"), status=STATUS, date=_when("date"), encounter=_ENCOUNTER,
        author=_to("author"),
    ),
    "Consent": _clinical(
        ("patient",), category=_token("category"), scope=_token("scope"), status=STATUS, date=_when("dateTime"),
        period=_date("provision.period"),
    ),
    "RelatedPerson": _clinical(("patient",), name=_text("name.text", "name.family", "name.given"),
                               relationship=_token("relationship"), active=_bare("active")),
    "Claim": _clinical(("patient",), status=STATUS, use=_bare("use"), created=_when("created")),
    "ExplanationOfBenefit": _clinical(("patient",), status=STATUS, created=_when("created")),
    "Provenance": TypeRules(
        ("target",),
        {
            "patient": Param(REFERENCE, ("target",), ("Patient",), compartment=True),
            "target": _to("target"),
            "agent": _to("agent.who"),
            "recorded": _when("recorded"),
            "when": _date("occurredDateTime", "occurredPeriod"),
        },
    ),
}  # fmt: skip
"""Every type the record keeps. One outside the table is refused, not ignored."""

COMMON: dict[str, str] = {"_id": TOKEN, "_lastUpdated": DATE, "_tag": TOKEN, "_profile": TOKEN}
"""Parameters of every type."""


def clinical_date(kind: str) -> str | None:
    """Name of the date a type is sorted by."""
    return next((name for name, param in TYPES[kind].params.items() if param.clinical), None)


INCLUDES: frozenset[str] = frozenset(
    f"{kind}:{name}" for kind, rules in TYPES.items() for name, param in rules.params.items() if param.kind == REFERENCE
)
"""``_include`` and ``_revinclude`` follow any reference of the table, one step."""
