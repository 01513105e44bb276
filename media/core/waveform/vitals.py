"""Vital signs and reported alarms as they cross the wire (media/WAVEFORM_WIRE.md section 6).

One msgpack map per message, checked whole by the relay before it is copied. A number carries its own time and whose
context it belongs to (W8); a simulated source says so in every message, and nobody else may (W9). An alarm is what a
bedside monitor reported, as text: nothing here is an alarm of ours (W36).
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from media.core.waveform.errors import MalformedFrame

MAX_VITAL_BYTES: Final = 512
CODES: Final = frozenset({"HR", "SpO2", "NIBP", "Resp", "Temp", "Pulse"})
QUALITIES: Final = frozenset({"ok", "questionable", "invalid"})
PRIORITIES: Final = frozenset({"low", "medium", "high"})
MAX_TIME_US: Final = 2**53 - 1
MAX_TEXT: Final = 200
MAX_UNIT: Final = 16
_VITAL: Final = frozenset({"t", "cv", "code", "v", "u", "at", "q", "sim"})
_ALARM: Final = frozenset({"t", "cv", "text", "at", "prio", "sim"})

Value = float | int | None


class MalformedVital(MalformedFrame):
    """Not a vital sign or reported alarm; the only error any bytes can cause."""


@dataclass(frozen=True, slots=True)
class VitalSign:
    """One measured number."""

    context_version: int
    code: str
    value: Value | tuple[Value, Value, Value]
    """NIBP: systolic, diastolic, mean. None: measured, but no number came of it."""
    unit: str
    at_us: int
    quality: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class ReportedAlarm:
    """What a bedside monitor said."""

    context_version: int
    text: str
    at_us: int
    priority: str
    simulated: bool


def read_vital(message: bytes) -> VitalSign | ReportedAlarm:
    """Check one message.

    Raises:
        MalformedVital: it is not one; nothing else is ever raised, whatever the bytes.
    """
    fields = _map(message)
    kind = fields.get("t")
    version, at_us = _number(fields, "cv", 2**32 - 1), _number(fields, "at", MAX_TIME_US)
    simulated = fields.get("sim", False)
    if type(simulated) is not bool:
        raise MalformedVital("sim")
    if kind == "vital" and fields.keys() <= _VITAL:
        code, quality = fields.get("code"), fields.get("q")
        if not isinstance(code, str) or code not in CODES or not isinstance(quality, str) or quality not in QUALITIES:
            raise MalformedVital("code or quality")
        return VitalSign(
            version, code, _value(code, fields.get("v")), _text(fields, "u", MAX_UNIT), at_us, quality, simulated
        )
    if kind == "alarm" and fields.keys() <= _ALARM:
        priority = fields.get("prio")
        if not isinstance(priority, str) or priority not in PRIORITIES:
            raise MalformedVital("prio")
        return ReportedAlarm(version, _text(fields, "text", MAX_TEXT), at_us, priority, simulated)
    raise MalformedVital("neither vital nor alarm, or unknown fields")


def _map(message: bytes) -> dict[str, Any]:
    if len(message) > MAX_VITAL_BYTES:
        raise MalformedVital("too long")
    try:
        decoded = msgpack.unpackb(message, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise MalformedVital("not msgpack") from None
    if not isinstance(decoded, dict) or not all(isinstance(key, str) for key in decoded):
        raise MalformedVital("not a map")
    return decoded


def _number(fields: dict[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise MalformedVital(name)
    return value


def _text(fields: dict[str, Any], name: str, most: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise MalformedVital(name)
    return value


def _value(code: str, value: object) -> Value | tuple[Value, Value, Value]:
    if code == "NIBP" and isinstance(value, list):
        if len(value) != 3:
            raise MalformedVital("v")
        systolic, diastolic, mean = (_single(one) for one in value)
        return systolic, diastolic, mean
    return _single(value)


def _single(value: object) -> Value:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e6:
        raise MalformedVital("v")
    return value
