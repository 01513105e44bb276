"""Vital signs and reported alarms as they cross the wire (media/WAVEFORM_WIRE.md section 6).

One msgpack map per message, checked whole by the relay before it is copied. A number carries its own time and whose
context it belongs to (W8); a simulated source says so in every message, and nobody else may (W9). An alarm is what a
bedside monitor reported, as text: nothing here is an alarm of ours (W36).

A value outside what the quantity can be is refused whole, not clipped: it is another unit or another field, and
showing it nearly right would be worse than showing `---`.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import msgpack

from media.core.waveform.errors import MalformedFrame

MAX_VITAL_BYTES: Final = 512
MAX_TIME_US: Final = 2**53 - 1
MAX_TEXT: Final = 200

VitalCode = Literal["HR", "SpO2", "NIBP", "Resp", "Temp", "Pulse"]
Quality = Literal["ok", "questionable", "invalid"]
Priority = Literal["low", "medium", "high"]
Number = float | int
Pressure = tuple[Number, Number, Number | None]


@dataclass(frozen=True, slots=True)
class VitalKind:
    """What a code stands for, and what can be true of it."""

    unit: str
    """UCUM, the only one it travels in."""
    low: float
    high: float
    """What a monitor can display, not what is healthy: beyond, the field is another one."""
    mdc: int
    """Code of ISO/IEEE 11073-10101, partition 2 (SCADA)."""
    loinc: str


KINDS: Final[dict[str, VitalKind]] = {
    "HR": VitalKind("/min", 0, 400, 147842, "8867-4"),  # MDC_ECG_HEART_RATE
    "SpO2": VitalKind("%", 0, 100, 150456, "59408-5"),  # MDC_PULS_OXIM_SAT_O2
    "NIBP": VitalKind("mm[Hg]", 0, 400, 150020, "85354-9"),  # MDC_PRESS_BLD_NONINV; parts in NIBP_PARTS
    "Resp": VitalKind("/min", 0, 200, 151562, "9279-1"),  # MDC_RESP_RATE
    "Temp": VitalKind("Cel", 0, 60, 150344, "8310-5"),  # MDC_TEMP
    "Pulse": VitalKind("/min", 0, 400, 149530, "8889-8"),  # MDC_PULS_OXIM_PULS_RATE
}
NIBP_PARTS: Final = ((150021, "8480-6"), (150022, "8462-4"), (150023, "8478-0"))
"""MDC and LOINC codes of systolic, diastolic and mean."""

_VITAL: Final = frozenset({"t", "cv", "code", "v", "u", "at", "q", "sim"})
_ALARM: Final = frozenset({"t", "cv", "text", "at", "prio", "sim"})


class MalformedVital(MalformedFrame):
    """Not a vital sign or reported alarm; the only error any bytes can cause."""


@dataclass(frozen=True, slots=True)
class VitalSign:
    """One measured number. [WF12]"""

    context_version: int
    code: VitalCode
    value: Number | Pressure | None
    """NIBP: systolic, diastolic, mean. None: measured, but no number came of it."""
    unit: str
    at_us: int
    """Server time of the measurement. (W8)"""
    quality: Quality
    simulated: bool


@dataclass(frozen=True, slots=True)
class ReportedAlarm:
    """What a bedside monitor said. [WF14] (W36)"""

    context_version: int
    text: str
    at_us: int
    priority: Priority
    simulated: bool


def read_vital(message: bytes) -> VitalSign | ReportedAlarm:
    """Check one message. [WF12] [WF13] [WF14]

    Raises:
        MalformedVital: it is not one; nothing else is ever raised, whatever the bytes.
    """
    fields = _map(message)
    match fields.get("t"):
        case "vital":
            return _vital(fields)
        case "alarm":
            return _alarm(fields)
        case _:
            raise MalformedVital("neither vital nor alarm")


def build_vital(value: VitalSign | ReportedAlarm) -> bytes:
    """The message of a value; what `read_vital` gives back.

    Raises:
        MalformedVital: no reader would take it.
    """
    fields: dict[str, Any]
    if isinstance(value, VitalSign):
        number = list(value.value) if isinstance(value.value, tuple) else value.value
        fields = {"t": "vital", "code": value.code, "v": number, "u": value.unit, "q": value.quality}
    else:
        fields = {"t": "alarm", "text": value.text, "prio": value.priority}
    fields |= {"cv": value.context_version, "at": value.at_us, "sim": value.simulated}
    message = bytes(msgpack.packb(fields))
    read_vital(message)
    return message


def _vital(fields: dict[str, Any]) -> VitalSign:
    if not fields.keys() <= _VITAL:
        raise MalformedVital("unknown field")
    code = _one_of(fields, "code", get_args(VitalCode))
    kind = KINDS[code]
    if fields.get("u") != kind.unit:
        raise MalformedVital("u")
    quality = _one_of(fields, "q", get_args(Quality))
    value = _value(code, kind, fields.get("v", math.nan))
    if value is None and quality == "ok":
        raise MalformedVital("no number is not ok")
    version, at_us = _integer(fields, "cv", 2**32 - 1), _integer(fields, "at", MAX_TIME_US)
    return VitalSign(version, code, value, kind.unit, at_us, quality, _simulated(fields))  # type: ignore[arg-type] # by _one_of


def _alarm(fields: dict[str, Any]) -> ReportedAlarm:
    if not fields.keys() <= _ALARM:
        raise MalformedVital("unknown field")
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
        raise MalformedVital("text")
    priority = _one_of(fields, "prio", get_args(Priority))
    version, at_us = _integer(fields, "cv", 2**32 - 1), _integer(fields, "at", MAX_TIME_US)
    return ReportedAlarm(version, text, at_us, priority, _simulated(fields))  # type: ignore[arg-type] # by _one_of


def _map(message: bytes) -> dict[str, Any]:
    if len(message) > MAX_VITAL_BYTES:
        raise MalformedVital("too long")
    try:
        decoded = msgpack.unpackb(message, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
        raise MalformedVital("not msgpack") from None
    if not isinstance(decoded, dict) or not all(isinstance(key, str) for key in decoded):
        raise MalformedVital("not a map")
    return decoded


def _one_of(fields: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or value not in known:
        raise MalformedVital(name)
    return value


def _integer(fields: dict[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise MalformedVital(name)
    return value


def _simulated(fields: dict[str, Any]) -> bool:
    """Not saying is saying no; the relay compares it with what the source was announced as. (W9)"""
    value = fields.get("sim", False)
    if type(value) is not bool:
        raise MalformedVital("sim")
    return value


def _value(code: str, kind: VitalKind, value: object) -> Number | Pressure | None:
    if value is None:
        return None
    if code != "NIBP":
        return _number(kind, value)
    if not isinstance(value, list) or len(value) != 3:
        raise MalformedVital("v")
    systolic, diastolic = _number(kind, value[0]), _number(kind, value[1])
    mean = None if value[2] is None else _number(kind, value[2])
    if not diastolic <= (systolic if mean is None else mean) <= systolic:
        raise MalformedVital("v")
    return systolic, diastolic, mean


def _number(kind: VitalKind, value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or not kind.low <= value <= kind.high:
        raise MalformedVital("v")
    return value
