"""The CapabilityStatement: said from the tables that the interface itself works by."""

from typing import Any

from server.record.core.params import COMMON, COMPOSITE, DATE, QUANTITY, REFERENCE, STRING, TOKEN, TYPES, Param

CREATED = "2026-11-22"
INTERACTIONS = ("read", "vread", "create", "update", "delete", "history-instance", "search-type")
NOT_OFFERED = (
    "Chains (up to three steps) and _has are offered for every reference parameter; the modifiers :missing (but for "
    "_id, _lastUpdated and composites), :not, :exact and :contains; the prefix ap for quantities (a tenth) and for "
    "dates (a tenth of the time between the date and now, on both sides); _elements for reading and searching "
    "(mandatory and modifying elements and the patient stay; what is tagged SUBSETTED cannot be written). Units of "
    "quantities are compared as written. Not offered, and refused by name: patch, history of a type or of the system, "
    "the modifiers :above, :below, :in, :not-in, :text, :of-type and :identifier, _summary but for count and false, "
    "_include:iterate, _filter, _text and _content, XML and Turtle, GraphQL, subscriptions."
)
_KINDS = {
    TOKEN: "token", DATE: "date", REFERENCE: "reference", STRING: "string", QUANTITY: "quantity",
    COMPOSITE: "composite",
}  # fmt: skip
_SERVICES = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_OAUTH = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_FHIRCAST = "http://fhircast.hl7.org/StructureDefinition/fhircast-configuration-extension"
"""FHIRcast 3.0.0 section 2.7: where the hub is that belongs to this server."""


def capability_statement(base: str, version: str, endpoints: dict[str, str], hub: str) -> dict[str, Any]:
    """What is offered at ``base``.

    Args:
        endpoints: ``authorize``, ``token``, ``introspect`` and ``revoke`` of the authorization server.
        hub: address of the FHIRcast hub.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": CREATED,
        "kind": "instance",
        "software": {"name": "Consilium", "version": version},
        "implementation": {"description": "The record of a teleconsultation hub", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "implementationGuide": [
            "http://hl7.org/fhir/smart-app-launch/ImplementationGuide/hl7.fhir.uv.smart-app-launch"
        ],
        "rest": [
            {
                "mode": "server",
                "documentation": NOT_OFFERED,
                "extension": [{"url": _FHIRCAST, "extension": [{"url": "hub.url", "valueUrl": hub}]}],
                "security": {
                    "cors": True,
                    "service": [{"coding": [{"system": _SERVICES, "code": "SMART-on-FHIR"}]}],
                    "extension": [
                        {
                            "url": _OAUTH,
                            "extension": [{"url": name, "valueUri": uri} for name, uri in sorted(endpoints.items())],
                        }
                    ],
                },
                "resource": [_resource(kind) for kind in sorted(TYPES)],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


def _resource(kind: str) -> dict[str, Any]:
    params = TYPES[kind].params
    told: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": False,
        "conditionalCreate": True,
        "conditionalRead": "not-match",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "searchInclude": sorted(f"{kind}:{name}" for name, param in params.items() if param.kind == REFERENCE),
        "searchRevInclude": sorted(_pointing_at(kind)),
        "searchParam": [
            *({"name": name, "type": _KINDS[param]} for name, param in COMMON.items()),
            *({"name": name, "type": _KINDS[param.kind]} for name, param in sorted(params.items())),
        ],
    }
    if kind == "Patient":
        definition = "http://hl7.org/fhir/OperationDefinition/Patient-everything"
        told["operation"] = [{"name": "everything", "definition": definition}]
    return {name: value for name, value in told.items() if value != []}


def _pointing_at(kind: str) -> list[str]:
    """References that can lead to a type."""

    def can(param: Param) -> bool:
        return param.kind == REFERENCE and (not param.targets or kind in param.targets)

    return [f"{source}:{name}" for source, rules in TYPES.items() for name, param in rules.params.items() if can(param)]
