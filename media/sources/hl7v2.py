"""HL7 v2 ORU: waveforms (IHE PCD WCM-like, OBX type NA) and vital signs (PCD-01 numerics).

A waveform is an OBX of type NA whose code is an 11073 lead or potential; its rate and resolution are child OBX
(same OBX-4 with one more level). Where no rate is given, it follows from OBR-7 and OBR-8. Empty NA elements are
missing samples. Lines may end in CR, LF or both, and a BOM may come first: found in real files.
"""

import re
from collections import defaultdict
from datetime import datetime
from fractions import Fraction
from typing import Any, Final

import hl7
import numpy as np

from media.core.waveform import InvalidReason
from media.sources.dicom import dicom_time
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import from_number, is_ecg_name, standard_name
from media.sources.limits import MAX_CHANNELS, MAX_TEXT_BYTES, bounded, exact, library, unix_us
from media.sources.model import Patient, Recording, Vital, VitalCode
from media.sources.scale import Piece, RawLead, strips_of

MAX_SEGMENTS: Final = 20_000
_NANOVOLTS: Final = {
    "MDC_DIM_MILLI_VOLT": 1_000_000, "262418": 1_000_000, "266418": 1_000_000, "mV": 1_000_000,
    "MDC_DIM_MICRO_VOLT": 1000, "266419": 1000, "262419": 1000, "uV": 1000,
    "MDC_DIM_NANO_VOLT": 1, "266420": 1, "nV": 1, "MDC_DIM_VOLT": 10**9, "V": 10**9,
}  # fmt: skip
_NUMERICS: Final[dict[str, VitalCode]] = {
    "147842": "HR", "MDC_ECG_HEART_RATE": "HR", "MDC_ECG_CARD_BEAT_RATE": "HR", "8867-4": "HR",
    "149530": "Pulse", "8889-8": "Pulse", "MDC_PULS_OXIM_PULS_RATE": "Pulse", "149514": "Pulse",
    "MDC_PULS_RATE": "Pulse",
    "150456": "SpO2", "MDC_PULS_OXIM_SAT_O2": "SpO2", "59408-5": "SpO2", "2708-6": "SpO2",
    "151562": "Resp", "MDC_RESP_RATE": "Resp", "151578": "Resp", "MDC_TTHOR_RESP_RATE": "Resp", "9279-1": "Resp",
    "150344": "Temp", "MDC_TEMP": "Temp", "150364": "Temp", "MDC_TEMP_BODY": "Temp", "8310-5": "Temp",
}  # fmt: skip
_PRESSURE: Final = {
    "150021": 0, "MDC_PRESS_BLD_NONINV_SYS": 0, "150301": 0, "MDC_PRESS_CUFF_SYS": 0, "8480-6": 0,
    "150022": 1, "MDC_PRESS_BLD_NONINV_DIA": 1, "150302": 1, "MDC_PRESS_CUFF_DIA": 1, "8462-4": 1,
    "150023": 2, "MDC_PRESS_BLD_NONINV_MEAN": 2, "150303": 2, "MDC_PRESS_CUFF_MEAN": 2, "8478-0": 2,
}  # fmt: skip
_UNITS: Final[dict[VitalCode, tuple[str, frozenset[str]]]] = {
    "HR": ("/min", frozenset({"MDC_DIM_BEAT_PER_MIN", "264864", "/min", "bpm", "{beats}/min", "1/min"})),
    "Pulse": ("/min", frozenset({"MDC_DIM_BEAT_PER_MIN", "264864", "/min", "bpm", "{beats}/min", "1/min"})),
    "SpO2": ("%", frozenset({"MDC_DIM_PERCENT", "262688", "%"})),
    "Resp": ("/min", frozenset({"MDC_DIM_RESP_PER_MIN", "264928", "/min", "{breaths}/min", "1/min"})),
    "Temp": ("Cel", frozenset({"MDC_DIM_DEGC", "268192", "Cel", "C", "°C"})),
    "NIBP": ("mm[Hg]", frozenset({"MDC_DIM_MMHG", "266016", "mm[Hg]", "mmHg"})),
}  # fmt: skip
_RATE_CODES: Final = {"MDC_ATTR_SAMP_RATE", "68165"}
_PERIOD_CODES: Final = {"MDC_ATTR_TIME_PD_SAMP", "67981"}
_RESOLUTION_CODES: Final = {"MDC_ATTR_NU_MSMT_RES", "68026"}
_NULL: Final = frozenset({"", '""'})


def is_hl7v2(data: bytes) -> bool:
    """Whether a message header opens the bytes."""
    return data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n\x0b ")[:4] in (b"MSH|", b"FHS|", b"BHS|")


def read_hl7v2(data: bytes) -> Recording:
    """Waveforms and vital signs of one ORU message.

    Raises:
        SourceError: no ORU, or neither of them in it.
    """
    bounded(data, MAX_TEXT_BYTES)
    with library("hl7v2"):
        return _recording(_message(data))


class _Obx:
    """The fields of one OBX that matter here."""

    def __init__(self, segment: Any, order_time: datetime | None) -> None:
        self.type = _text(segment, 2)
        code = _text(segment, 3).split("^")
        self.codes = [part for part in (*code[:2], *code[3:5]) if part]
        self.path = _text(segment, 4)
        self.value = _text(segment, 5)
        self.units = [part for part in _text(segment, 6).split("^") if part]
        self.flag = _text(segment, 8)
        self.status = _text(segment, 11)
        self.time = dicom_time(_text(segment, 14)) or order_time

    def is_one_of(self, codes: Any) -> Any:
        return next((code for code in self.codes if code in codes), None)


def _text(segment: Any, number: int) -> str:
    return str(segment[number]).strip() if len(segment) > number else ""


def _message(data: bytes) -> Any:
    text = data.decode("utf-8-sig", "replace").strip("\x0b\x1c\r\n ")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if len(lines) > MAX_SEGMENTS:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"{len(lines)} segments")
    headers = [number for number, line in enumerate(lines) if line.startswith("MSH")]
    if len(headers) != 1:
        raise SourceError(SourceErrorCode.UNSUPPORTED, f"{len(headers)} messages in one file")
    message = hl7.parse("\r".join(lines[headers[0] :]) + "\r")
    kind = str(message.segment("MSH")[9])
    if not kind.startswith("ORU"):
        raise SourceError(SourceErrorCode.NO_ECG, f"message type {kind[:16]}")
    return message


def _recording(message: Any) -> Recording:
    notices: list[Notice] = []
    vitals: list[Vital] = []
    leads: list[RawLead] = []
    start: datetime | None = None
    for order, results in _orders(message):
        began, ended = dicom_time(_text(order, 7)), dicom_time(_text(order, 8))
        obx = [_Obx(segment, began) for segment in results]
        found = _waveforms(obx, began, ended, notices)
        if found and not leads:
            leads, start = found, began
        elif found:
            raise SourceError(SourceErrorCode.UNSUPPORTED, "waveforms in several OBR of one message")
        vitals += _vitals(obx, notices)
    if not leads and not vitals:
        raise SourceError(SourceErrorCode.NO_ECG, "no waveform and no vital sign")
    strips = strips_of(leads, notices) if leads else ()
    if leads and start is None:
        notices.append(Notice(NoticeCode.NO_TIME))
    elif start is not None and start.tzinfo is None:
        notices.append(Notice(NoticeCode.NO_ZONE))
    vitals.sort(key=lambda vital: vital.at_us)
    start_us = None if start is None else unix_us(start)
    return Recording(
        format="hl7v2",
        strips=strips,
        start_us=start_us if leads else vitals[0].at_us,
        patient=_patient(message),
        device=_text(message.segment("MSH"), 3).split("^")[0][:120],
        vitals=tuple(vitals),
        notices=tuple(notices),
    )


def _orders(message: Any) -> list[tuple[Any, list[Any]]]:
    """Each OBR with its OBX."""
    orders: list[tuple[Any, list[Any]]] = []
    for segment in message:
        kind = str(segment[0])
        if kind == "OBR":
            orders.append((segment, []))
        elif kind == "OBX" and orders:
            orders[-1][1].append(segment)
    return orders


def _waveforms(
    results: list[_Obx], began: datetime | None, ended: datetime | None, notices: list[Notice]
) -> list[RawLead]:
    children: dict[str, list[_Obx]] = defaultdict(list)
    for obx in results:
        children[obx.path.rpartition(".")[0]].append(obx)
    leads: list[RawLead] = []
    for obx in results:
        if obx.type not in ("NA", "MA"):
            continue
        name = _lead_name(obx)
        if name is None:
            notices.append(Notice(NoticeCode.LEFT_OUT, (obx.codes or ["?"])[-1]))
            continue
        if len(leads) >= MAX_CHANNELS:
            raise SourceError(SourceErrorCode.TOO_LARGE, "waveforms")
        leads.append(_lead(obx, name, [*children[obx.path], *_shared(children, obx.path)], began, ended))
    return leads


def _shared(children: dict[str, list[_Obx]], path: str) -> list[_Obx]:
    """Attributes stated once for all leads of a channel or of the order."""
    found = []
    while path:
        path = path.rpartition(".")[0]
        found += [obx for obx in children[path] if obx.type not in ("NA", "MA")]
    return found


def _lead_name(obx: _Obx) -> str | None:
    for code in obx.codes:
        if code.isascii() and code.isdigit() and len(code) < 9 and (name := from_number(int(code))) is not None:
            return name
        if is_ecg_name(code):
            return standard_name(code)
    return None


def _lead(obx: _Obx, name: str, attributes: list[_Obx], began: datetime | None, ended: datetime | None) -> RawLead:
    tokens = re.split(r"[\^~]", obx.value)
    unit = next((_NANOVOLTS[u] for u in obx.units if u in _NANOVOLTS), None)
    if unit is None:
        raise SourceError(SourceErrorCode.SCALE_UNKNOWN, f"{name}: unit {'^'.join(obx.units)[:40]!r}")
    invalid = np.array([InvalidReason.MISSING if t.strip() in _NULL else 0 for t in tokens], np.uint8)
    values = [Fraction(0) if t.strip() in _NULL else exact(t) for t in tokens]
    divisor = max(v.denominator for v in values)
    if divisor > 1_000_000 or any((v * divisor).denominator != 1 or abs(v * divisor) >= 2**31 for v in values):
        raise SourceError(SourceErrorCode.SCALE_LOSSY, name)
    resolution = next((exact(a.value) for a in attributes if a.is_one_of(_RESOLUTION_CODES)), Fraction(1))
    raw = np.array([int(v * divisor) for v in values], np.int32)
    piece = Piece(first=0, raw=raw, nv_per_step=resolution * unit / divisor)
    rate = _rate(name, attributes, len(tokens), began, ended)
    return RawLead(found=obx.codes[-1][:64], name=name, rate=rate, length=len(raw), pieces=[piece], invalid=invalid)


def _rate(name: str, attributes: list[_Obx], count: int, began: datetime | None, ended: datetime | None) -> Fraction:
    for attribute in attributes:
        if attribute.is_one_of(_RATE_CODES):
            return exact(attribute.value)
        if attribute.is_one_of(_PERIOD_CODES):
            period = exact(attribute.value)
            if period > 0:
                return 1000 / period if "MDC_DIM_MILLI_SEC" in attribute.units else 1 / period
    if began is not None and ended is not None and (began.tzinfo is None) == (ended.tzinfo is None) and ended > began:
        return count * 1_000_000 / Fraction(round((ended - began).total_seconds() * 1_000_000))
    raise SourceError(SourceErrorCode.RATE, f"{name}: no sample rate and no times")


def _vitals(results: list[_Obx], notices: list[Notice]) -> list[Vital]:
    found: list[Vital] = []
    pressures: dict[int, dict[int, Vital]] = defaultdict(dict)
    for obx in results:
        numeric, part = obx.is_one_of(_NUMERICS), obx.is_one_of(_PRESSURE)
        if obx.type not in ("NM", "SN") or (numeric is None and part is None):
            continue
        code: VitalCode = "NIBP" if numeric is None else _NUMERICS[numeric]
        unit, known = _UNITS[code]
        at_us = None if obx.time is None else unix_us(obx.time)
        if at_us is None or not any(u in known for u in obx.units):
            notices.append(Notice(NoticeCode.LEFT_OUT, f"{code}: no time or unknown unit"))
            continue
        vital = _vital(obx, code, unit, at_us)
        if part is None:
            found.append(vital)
        else:
            pressures[at_us][_PRESSURE[part]] = vital
    for at_us, parts in pressures.items():
        if len(parts) == 3:
            found.append(_pressure([parts[0], parts[1], parts[2]], at_us))
        else:
            notices.append(Notice(NoticeCode.LEFT_OUT, "NIBP: not all of systolic, diastolic, mean"))
    return found


def _vital(obx: _Obx, code: VitalCode, unit: str, at_us: int) -> Vital:
    """Status X and flag INV: asked, but no number came of it. That is told as absent, not left away (W8)."""
    if obx.status in ("X", "D", "W") or obx.flag == "INV" or obx.value in _NULL:
        return Vital(code=code, value=None, unit=unit, at_us=at_us, quality="invalid")
    value = float(exact(obx.value.lstrip("^=")))
    return Vital(code=code, value=value, unit=unit, at_us=at_us, quality="questionable" if obx.flag == "QUES" else "ok")


def _pressure(parts: list[Vital], at_us: int) -> Vital:
    values = [part.value for part in parts]
    qualities = {part.quality for part in parts}
    if "invalid" in qualities:
        return Vital(code="NIBP", value=None, unit="mm[Hg]", at_us=at_us, quality="invalid")
    triple = tuple(float(v) for v in values if isinstance(v, float))
    assert len(triple) == 3, "a valid part has a number"
    quality = "questionable" if "questionable" in qualities else "ok"
    return Vital(code="NIBP", value=triple, unit="mm[Hg]", at_us=at_us, quality=quality)  # type: ignore[arg-type]


def _patient(message: Any) -> Patient:
    segment = next((s for s in message if str(s[0]) == "PID"), None)
    if segment is None:
        return Patient()
    ids = [part.split("^")[0] for part in _text(segment, 3).split("~")]
    born = _text(segment, 7)[:8]
    name = _text(segment, 5).split("~")[0].split("^")
    return Patient(
        ids=tuple(i[:64] for i in ids if i),
        name=" ".join(part for part in (name[1:2] + name[:1]) if part)[:128],
        birth_date=f"{born[:4]}-{born[4:6]}-{born[6:]}" if len(born) == 8 and born.isdigit() else "",
        sex=_text(segment, 8)[:1],
    )
