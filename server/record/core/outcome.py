"""Refusals of the FHIR interface, and the OperationOutcome that tells them.

A refusal has a stable code of ours, an issue type of FHIR, and the places in the
request it is about. It never quotes content (G8), and it says the same of what
does not exist and of what the caller may not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CODES_SYSTEM = "https://consilium.example/fhir/refusal"
_TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"


class FhirCode(StrEnum):
    """Codes never change meaning."""

    NOT_JSON = "not_json"
    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_PATIENT = "wrong_patient"
    WRONG_ID = "wrong_id"
    NOT_FOUND = "not_found"
    DELETED = "deleted"
    STALE = "stale"
    VERSION_NEEDED = "version_needed"
    MANY_MATCH = "many_match"
    QUERY = "query"
    UNSUPPORTED = "unsupported"
    BUNDLE = "bundle"
    UNRESOLVED = "unresolved"
    IN_USE = "in_use"
    FORBIDDEN = "forbidden"
    LOGIN = "login"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    METHOD = "method"
    FORMAT = "format"
    MEDIA_TYPE = "media_type"
    BUSY = "busy"
    INTERNAL = "internal"


_ANSWERS: dict[FhirCode, tuple[int, str, str, str]] = {
    FhirCode.NOT_JSON: (400, "structure", "The body is not a FHIR JSON object.", "请求正文不是 FHIR JSON 对象。"),
    FhirCode.INVALID: (422, "invalid", "The resource is not valid FHIR R4.", "资源不符合 FHIR R4 规范。"),
    FhirCode.UNKNOWN_TYPE: (404, "not-supported", "This resource type is not kept here.", "不支持该资源类型。"),
    FhirCode.WRONG_PATIENT: (
        422,
        "business-rule",
        "The resource names another patient than what it belongs to.",
        "资源所属患者与引用内容的患者不一致。",
    ),
    FhirCode.WRONG_ID: (400, "value", "The id does not fit the address.", "资源标识与地址不符。"),
    FhirCode.NOT_FOUND: (404, "not-found", "There is no such thing here.", "没有找到该内容。"),
    FhirCode.DELETED: (410, "deleted", "This resource was deleted.", "该资源已删除。"),
    FhirCode.STALE: (412, "conflict", "The resource has changed meanwhile.", "资源已被更新，请重新读取。"),
    FhirCode.VERSION_NEEDED: (428, "required", "The request lacks If-Match.", "请求缺少 If-Match。"),
    FhirCode.MANY_MATCH: (412, "multiple-matches", "More than one resource fits.", "有多个资源符合条件。"),
    FhirCode.QUERY: (400, "value", "The query cannot be read.", "检索条件无法识别。"),
    FhirCode.UNSUPPORTED: (400, "not-supported", "This is not offered here.", "不支持该功能。"),
    FhirCode.BUNDLE: (400, "structure", "The Bundle cannot be carried out.", "无法执行该 Bundle。"),
    FhirCode.UNRESOLVED: (400, "not-found", "A reference leads nowhere.", "引用的资源不存在。"),
    FhirCode.IN_USE: (409, "conflict", "The resource is in use.", "资源正在使用中，无法操作。"),
    FhirCode.FORBIDDEN: (403, "forbidden", "This is not allowed.", "没有相应权限。"),
    FhirCode.LOGIN: (401, "login", "An access token is needed.", "需要访问令牌。"),
    FhirCode.TOO_LARGE: (413, "too-long", "The request is too large.", "请求内容过大。"),
    FhirCode.TOO_MANY: (400, "too-costly", "The request asks for too much at once.", "一次请求的内容过多。"),
    FhirCode.METHOD: (405, "not-supported", "This interaction is not offered here.", "不支持该操作。"),
    FhirCode.FORMAT: (406, "not-supported", "The format is JSON.", "仅支持 JSON 格式。"),
    FhirCode.MEDIA_TYPE: (
        415,
        "not-supported",
        "The body is not of a type that is read here.",
        "不支持该请求正文类型。",
    ),
    FhirCode.BUSY: (503, "throttled", "Too much at once; try again.", "当前请求过多，请稍后重试。"),
    FhirCode.INTERNAL: (500, "exception", "Something went wrong here.", "服务器内部错误。"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the request: a FHIRPath-like expression and what kind of problem; never a value."""

    expression: str
    problem: str = ""


class FhirRefusal(Exception):
    """A request was declined; nothing was changed by it.

    Args:
        code: what a client may switch on.
        places: where the problem lies, where there is such a place.
        detail: a sentence of ours that adds to the code's own; no content.
    """

    def __init__(self, code: FhirCode, detail: str = "", places: Sequence[Place] = ()) -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail
        self.places = tuple(places)

    @property
    def status(self) -> int:
        """HTTP status."""
        return _ANSWERS[self.code][0]

    def within(self, expression: str) -> "FhirRefusal":
        """The same, seen from outside: its places lie under ``expression``."""
        places = [Place(f"{expression}.{place.expression}", place.problem) for place in self.places]
        return FhirRefusal(self.code, self.detail, places or [Place(expression)])

    @property
    def outcome(self) -> dict[str, Any]:
        """The OperationOutcome; one issue for each place."""
        _, type_, en, zh = _ANSWERS[self.code]
        issue: dict[str, Any] = {
            "severity": "fatal" if self.code is FhirCode.INTERNAL else "error",
            "code": type_,
            "details": details(self.code.value, en, zh),
        }
        if not self.places:
            return outcome([issue | ({"diagnostics": self.detail} if self.detail else {})])
        return outcome([issue | _placed(place, self.detail) for place in self.places])


def _placed(place: Place, detail: str) -> dict[str, Any]:
    text = ": ".join(part for part in (detail, place.problem) if part)
    # `location` is what older clients read.
    placed: dict[str, Any] = {"expression": [place.expression], "location": [place.expression]}
    return placed | ({"diagnostics": text} if text else {})


def details(code: str, en: str, zh: str) -> dict[str, Any]:
    """A CodeableConcept with both languages."""
    translation = {
        "url": _TRANSLATION,
        "extension": [{"url": "lang", "valueCode": "zh-CN"}, {"url": "content", "valueString": zh}],
    }
    return {"coding": [{"system": CODES_SYSTEM, "code": code}], "text": en, "_text": {"extension": [translation]}}


def outcome(issues: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An OperationOutcome resource."""
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


def information(text: str, code: str = "informational", severity: str = "information") -> dict[str, Any]:
    """An issue that is not a refusal."""
    return {"severity": severity, "code": code, "diagnostics": text}
