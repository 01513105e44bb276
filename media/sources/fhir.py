"""FHIR R4 Observations with SampledData: one component for each lead.

Data tokens: ``E`` = no value (our gap), ``U``/``L`` = above or below what the device can measure (saturated). Numbers
are decimal text; the step of a file is its ``factor``, scaled down where the text has a fraction. Long because
hostile JSON has many places.
"""

import json
from datetime import datetime
from fractions import Fraction
from math import lcm
from typing import Any, Final

import numpy as np

from media.core.waveform import InvalidReason
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import is_ecg_name, standard_name
from media.sources.limits import MAX_CHANNELS, MAX_TEXT_BYTES, bounded, exact, library, unix_us
from media.sources.model import Patient, Recording
from media.sources.scale import Piece, RawLead, strips_of

_NANOVOLTS: Final = {"uV": 1000, "mV": 1_000_000, "V": 10**9, "nV": 1}
_TOKENS: Final = {"E": InvalidReason.MISSING, "U": InvalidReason.SATURATED, "L": InvalidReason.SATURATED}


def is_fhir(data: bytes) -> bool:
    """Whether the bytes look like JSON with a FHIR resource in it."""
    head = data[:65_536].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and b'"resourceType"' in data[:65_536]


def read_fhir(data: bytes) -> Recording:
    """The ECG of an Observation, or of the one Observation with SampledData in a Bundle.

    Raises:
        SourceError: no such resource, or a scale or rate that cannot be carried.
    """
    bounded(data, MAX_TEXT_BYTES)
    with library("fhir"):
        # Decimals stay text: 1.25 is then exactly 1.25.
        resource = json.loads(data.decode("utf-8-sig"), parse_float=str)
        return _recording(_observation(resource))


def _observation(resource: Any) -> dict[str, Any]:
    if not isinstance(resource, dict):
        raise SourceError(SourceErrorCode.MALFORMED, "not an object")
    if resource.get("resourceType") == "Bundle":
        inside = [e.get("resource") for e in _list(resource.get("entry")) if isinstance(e, dict)]
        found = [r for r in inside if isinstance(r, dict) and _sampled(r)]
        if len(found) != 1:
            raise SourceError(SourceErrorCode.NO_ECG, f"{len(found)} Observations with SampledData in the Bundle")
        return found[0]
    if resource.get("resourceType") != "Observation" or not _sampled(resource):
        raise SourceError(SourceErrorCode.NO_ECG, "no Observation with SampledData")
    return resource


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sampled(resource: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of what names a lead and its SampledData."""
    parts = [resource, *[c for c in _list(resource.get("component")) if isinstance(c, dict)]]
    return [(part, part["valueSampledData"]) for part in parts if isinstance(part.get("valueSampledData"), dict)]


def _recording(resource: dict[str, Any]) -> Recording:
    notices: list[Notice] = []
    sampled = _sampled(resource)
    if len(sampled) > MAX_CHANNELS:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"{len(sampled)} components")
    leads = []
    for part, data in sampled:
        found, name = _name(_map(part.get("code")))
        unit = _NANOVOLTS.get(str(_map(data.get("origin")).get("code") or _map(data.get("origin")).get("unit") or ""))
        if unit is None:
            if is_ecg_name(name):
                raise SourceError(SourceErrorCode.SCALE_UNKNOWN, f"{name}: no unit")
            notices.append(Notice(NoticeCode.LEFT_OUT, found))
            continue
        leads.append(_lead(found, name, data, unit))
    if not leads:
        raise SourceError(SourceErrorCode.NO_ECG, "no component in volts")
    strips = strips_of(leads, notices)
    start_us = _start(resource)
    if start_us is None:
        notices.append(Notice(NoticeCode.NO_TIME))
    subject = _map(resource.get("subject"))
    reference = str(subject.get("reference") or "").rpartition("/")[2]
    return Recording(
        format="fhir",
        strips=strips,
        start_us=start_us,
        patient=Patient(ids=(reference[:64],) if reference else (), name=str(subject.get("display") or "")[:128]),
        device=str(_map(resource.get("device")).get("display") or "")[:120],
        notices=tuple(notices),
    )


def _name(code: dict[str, Any]) -> tuple[str, str]:
    """Name as found, and the standard one by the first code that is known."""
    codings = [c for c in _list(code.get("coding")) if isinstance(c, dict)]
    texts = [str(code.get("text") or ""), *(str(c.get("display") or "") for c in codings)]
    found = next((text for text in texts if text), str(codings[0].get("code", "")) if codings else "")
    for text in (*(f"MDC:{c.get('code')}" for c in codings), *texts):
        if text and is_ecg_name(text):
            return found[:64], standard_name(text)
    return found[:64], standard_name(found)


def _lead(found: str, name: str, data: dict[str, Any], unit: int) -> RawLead:
    if data.get("dimensions") != 1:
        raise SourceError(SourceErrorCode.UNSUPPORTED, "SampledData of several dimensions")
    factor, origin = exact(data.get("factor", 1)), exact(_map(data.get("origin")).get("value", 0))
    text = data.get("data")
    if not isinstance(text, str) or not text.strip():
        raise SourceError(SourceErrorCode.TRUNCATED, f"{name}: no data")
    tokens = text.split()
    invalid = np.array([_TOKENS.get(token, 0) for token in tokens], np.uint8)
    raw, divisor = _numbers(["0" if token in _TOKENS else token for token in tokens])
    return RawLead(
        found=found, name=name, rate=_rate(data, len(tokens)), length=len(tokens), invalid=invalid,
        pieces=[Piece(first=0, raw=raw, nv_per_step=factor * unit / divisor, offset_nv=origin * unit)],
    )  # fmt: skip


def _numbers(tokens: list[str]) -> tuple["np.ndarray[Any, np.dtype[np.int32]]", int]:
    """Tokens as whole numbers, and what they were multiplied with to be whole."""
    known: dict[str, Fraction] = {token: exact(token) for token in set(tokens)}
    divisor = lcm(*(value.denominator for value in known.values()))
    if divisor > 1_000_000:
        raise SourceError(SourceErrorCode.SCALE_LOSSY, "too many decimals")
    whole = {token: int(value * divisor) for token, value in known.items()}
    if any(abs(value) >= 2**31 for value in whole.values()):
        raise SourceError(SourceErrorCode.SCALE_LOSSY, "values exceed 16 bits")
    return np.array([whole[token] for token in tokens], np.int32), divisor


def _rate(data: dict[str, Any], count: int) -> Fraction:
    """``period`` is ms between samples (R4); some writers put the length of the whole strip in seconds there."""
    if "interval" in data:  # R5
        unit = {"ms": 1000, "s": 1, "us": 1_000_000, "Hz": 0}.get(str(data.get("intervalUnit", "ms")))
        interval = exact(data["interval"])
        if unit is None or interval <= 0:
            raise SourceError(SourceErrorCode.RATE, "interval")
        return interval if unit == 0 else unit / interval
    period = exact(data.get("period", 0))
    if period <= 0 or count < 1:
        raise SourceError(SourceErrorCode.RATE, "period")
    return 1000 / period


def _start(resource: dict[str, Any]) -> int | None:
    text = _map(resource.get("effectivePeriod")).get("start") or resource.get("effectiveDateTime")
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return unix_us(moment) if moment.tzinfo is not None else None
