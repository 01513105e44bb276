"""Names of leads: one spelling for each, whatever a device calls them, and one order.

A name is only brought to its usual spelling. A lead is never renamed into another
one: MLII, a modified lead, does not become II, and what is unknown keeps its own name.

Numbers are those of SCP-ECG (EN 1064), which DICOM (CID 3001, "5.6.3-9-n"), ISO/IEEE 11073-10101 ("2:n",
MDC_ECG_LEAD_...) and 11073 potentials (131328 + n, MDC_ECG_ELEC_POTL_...) share.
"""

import re
from collections.abc import Iterable
from typing import Final

STANDARD: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
EXTRA: Final = ("V7", "V8", "V9", "V1R", "V2R", "V3R", "V4R", "V5R", "V6R", "V7R", "V8R", "V9R", "vx", "vy", "vz")
LIMB: Final = frozenset(STANDARD[:6])
OTHERS: Final = ("-aVR", "MLI", "MLII", "MLIII", "MCL1", "MCL6", "CC5", "CM5", "ES", "AS", "AI")
MAX_NAME: Final = 8

SCP_NUMBERS: Final = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 9: "V7", 10: "V2R", 11: "V3R", 12: "V4R",
    13: "V5R", 14: "V6R", 15: "V7R", 16: "vx", 17: "vy", 18: "vz", 19: "CC5", 20: "CM5", 61: "III", 62: "aVR",
    63: "aVL", 64: "aVF", 65: "-aVR", 66: "V8", 67: "V9", 68: "V8R", 69: "V9R", 86: "MCL1", 91: "MCL6",
    131: "ES", 132: "AS", 133: "AI",
}  # fmt: skip
_POTENTIAL: Final = 131_328
_LEAD: Final = 131_072

_SPELLINGS: Final = {name.upper(): name for name in (*STANDARD, *EXTRA, *OTHERS)} | {
    "DI": "I", "DII": "II", "DIII": "III", "L1": "I", "L2": "II", "L3": "III", "1": "I", "2": "II", "3": "III",
    "AVRNEG": "-aVR", "-AVR": "-aVR", "ML2": "MLII", "ML1": "MLI", "ML3": "MLIII", "X": "vx", "Y": "vy", "Z": "vz",
    "C1": "V1", "C2": "V2", "C3": "V3", "C4": "V4", "C5": "V5", "C6": "V6", "RV3": "V3R", "RV4": "V4R", "RV5": "V5R",
    "RV6": "V6R",
}  # fmt: skip

_NOISE: Final = re.compile(
    r"(?i)^(?:MDC_ECG_(?:ELEC_POTL|LEAD)_|ECG[\s:_-]+|EKG[\s:_-]+|LEAD[\s:_-]+)|\s*-?\s*(?:REF|LE)$"
)
_CODE: Final = re.compile(r"^(?:5\.6\.3-9-|2:|MDC[: ])(\d{1,6})$")
_OTHER_SIGNAL: Final = re.compile(
    r"(?i)^(?:resp|imp|pleth|ppg|spo2|sao2|abp|art|cvp|pap|icp|ao\b|uap|bp\b|nbp|nibp|eeg|emg|eog|co2|etco2|temp|"
    r"flow|chest|abd|accel?|acc_|hr\b|pulse|edf annotations|marker|trig|status|event)"
)
_ORDER: Final = {
    name: place
    for place, name in enumerate((*STANDARD[:6], "-aVR", "MLI", "MLII", "MLIII", *STANDARD[6:], *EXTRA, *OTHERS[4:]))
}


def standard_name(found: str) -> str:
    """The usual spelling of a lead name or code; an unknown name comes back cleaned, cut to 8 characters.

    Empty only when nothing printable was given.
    """
    name = " ".join(found.split())
    if (code := _CODE.match(name)) is not None:
        known = from_number(int(code[1]))
        if known is not None:
            return known
    stripped = _NOISE.sub("", name).partition("(")[0].strip()
    key = stripped.upper().replace(" ", "").replace("_", "")
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    clean = "".join(c for c in (stripped or name) if c.isprintable())
    return clean[:MAX_NAME].strip()


def is_renamed(found: str, name: str) -> bool:
    """Whether the standard name is another word than the one the source used."""
    words = _NOISE.sub("", " ".join(found.split())).upper().replace("(", " ").split()
    return name.upper() not in words


def is_ecg_name(found: str) -> bool:
    """Whether a channel of this name is an ECG lead whatever its unit says."""
    return standard_name(found) in _ORDER


def is_other_signal(found: str) -> bool:
    """Whether the name says that this is something else: respiration, pleth, pressure, EEG."""
    return _OTHER_SIGNAL.match(found.strip()) is not None


def from_number(number: int) -> str | None:
    """Lead of an SCP-ECG number or an 11073 code of a lead or a potential."""
    if _POTENTIAL <= number < _POTENTIAL + 256:
        number -= _POTENTIAL
    elif _LEAD <= number < _LEAD + 256:
        number -= _LEAD
    return SCP_NUMBERS.get(number)


def wire_order(names: Iterable[str]) -> list[int]:
    """Row numbers in the order of the wire: I II III aVR aVL aVF V1-V6, extra leads, others as found [WF2]."""
    listed = list(names)
    return sorted(range(len(listed)), key=lambda row: (_ORDER.get(listed[row], len(_ORDER)), row))


def unique(names: Iterable[str]) -> list[str]:
    """The same names, where a repeated or empty one gets a number: a lead must be addressable by its name."""
    taken: set[str] = set()
    result = []
    for place, name in enumerate(names, start=1):
        candidate, count = name or f"ch{place}", 2
        base = candidate
        while candidate in taken:
            candidate = f"{base[: MAX_NAME - 1 - len(str(count))]}~{count}"
            count += 1
        taken.add(candidate)
        result.append(candidate)
    return result
