"""HL7 annotated ECG (aECG, ANSI/HL7 V3): rhythm series of SLIST_PQ sequences.

XML from strangers: a document type or an entity is refused before any parser sees it (no expansion, nothing
fetched), and depth and size are bounded. Derived series (a representative beat) are not rhythm and not read.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Final
from xml.parsers import expat

import numpy as np

from media.sources.dicom import dicom_time
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import is_ecg_name
from media.sources.limits import MAX_CHANNELS, MAX_TEXT_BYTES, bounded, exact, library, unix_us
from media.sources.model import Patient, Recording
from media.sources.scale import Piece, RawLead, strips_of

MAX_DEPTH: Final = 64
MAX_ELEMENTS: Final = 200_000
_NANOVOLTS: Final = {"uV": 1000, "mV": 1_000_000, "V": 10**9, "nV": 1}
_ROOT: Final = re.compile(rb"<(?:\w{1,20}:)?AnnotatedECG[\s>]")


def is_aecg(data: bytes) -> bool:
    """Whether this is XML with an AnnotatedECG."""
    return _ROOT.search(data[:65_536]) is not None


def read_aecg(data: bytes) -> Recording:
    """The first rhythm series.

    Raises:
        SourceError: unsafe or broken XML, no rhythm, or a scale that cannot be carried.
    """
    bounded(data, MAX_TEXT_BYTES)
    with library("aecg"):
        return _recording(parse_xml(data))


def parse_xml(data: bytes) -> ET.Element:
    """An XML document, names without their namespaces.

    Raises:
        SourceError: a DTD, an entity, too deep, too many elements, or no XML.
    """
    builder = ET.TreeBuilder()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise SourceError(SourceErrorCode.TOO_LARGE, "XML too deep or too many elements")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: object) -> None:
        raise SourceError(SourceErrorCode.UNSAFE, "XML with a DTD or an entity")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse  # type: ignore[assignment]  # it raises: there is no result to give
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SourceError(
            SourceErrorCode.MALFORMED, f"XML line {error.lineno}: {expat.ErrorString(error.code)}"
        ) from None
    return builder.close()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _recording(root: ET.Element) -> Recording:
    series = [s for s in root.iter("series") if _code(s) in ("RHYTHM", "")]
    if not series:
        raise SourceError(SourceErrorCode.NO_RHYTHM, "no series of code RHYTHM")
    chosen = series[0]
    notices: list[Notice] = []
    leads, rate, start = [], None, None
    for sequences in chosen.iter("sequenceSet"):
        rate, start = _time_axis(sequences)
        leads = list(_leads(sequences, rate, notices))
        if leads:
            break
    if not leads:
        raise SourceError(SourceErrorCode.NO_ECG, "no lead in the series")
    strips = strips_of(leads, notices)
    moment = start or _moment(chosen.find("effectiveTime/low"))
    if moment is None:
        notices.append(Notice(NoticeCode.NO_TIME))
    elif moment.tzinfo is None:
        notices.append(Notice(NoticeCode.NO_ZONE))
    return Recording(
        format="aecg",
        strips=strips,
        start_us=None if moment is None else unix_us(moment),
        patient=_patient(root),
        device=_device(chosen),
        filter=_filter(chosen),
        notices=tuple(notices),
    )


def _code(element: ET.Element) -> str:
    code = element.find("code")
    return "" if code is None else code.get("code", "")


def _moment(element: ET.Element | None) -> datetime | None:
    return None if element is None else dicom_time(element.get("value", ""))


def _time_axis(sequences: ET.Element) -> tuple[Fraction, datetime | None]:
    for value in sequences.iter("value"):
        increment = value.find("increment")
        if increment is None:
            continue
        per_second = {"s": 1, "ms": 1000, "us": 1_000_000}.get(increment.get("unit", ""))
        step = exact(increment.get("value", ""))
        if per_second is None or step <= 0:
            break
        return per_second / step, _moment(value.find("head"))
    raise SourceError(SourceErrorCode.RATE, "no time axis")


def _leads(sequences: ET.Element, rate: Fraction, notices: list[Notice]) -> Iterator[RawLead]:
    found = 0
    for sequence in sequences.iter("sequence"):
        name, value = _code(sequence), sequence.find("value")
        digits = None if value is None else value.find("digits")
        if value is None or digits is None:
            continue
        found += 1
        if found > MAX_CHANNELS:
            raise SourceError(SourceErrorCode.TOO_LARGE, "sequences")
        scale = value.find("scale")
        unit = None if scale is None else _NANOVOLTS.get(scale.get("unit", ""))
        if unit is None or scale is None:
            if is_ecg_name(name):
                raise SourceError(SourceErrorCode.SCALE_UNKNOWN, name)
            notices.append(Notice(NoticeCode.LEFT_OUT, name))
            continue
        origin = value.find("origin")
        offset = Fraction(0)
        if origin is not None:
            offset = exact(origin.get("value", "0")) * _NANOVOLTS.get(origin.get("unit", ""), unit)
        raw = _digits(digits.text or "")
        piece = Piece(first=0, raw=raw, nv_per_step=exact(scale.get("value", "")) * unit, offset_nv=offset)
        empty = np.zeros(len(raw), np.uint8)
        yield RawLead(found=name, rate=rate, length=len(raw), pieces=[piece], invalid=empty)


def _digits(text: str) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    tokens = text.split()
    if not tokens:
        raise SourceError(SourceErrorCode.TRUNCATED, "a sequence without digits")
    if any(len(token) > 11 for token in tokens):
        raise SourceError(SourceErrorCode.MALFORMED, "digits")
    return np.array([int(token) for token in tokens], np.int32)


def _patient(root: ET.Element) -> Patient:
    subject = next(root.iter("trialSubject"), None)
    if subject is None:
        return Patient()
    ids = [e.get("extension") or e.get("root") or "" for e in subject.findall("id")]
    gender = next(subject.iter("administrativeGenderCode"), None)
    born = next(subject.iter("birthTime"), None)
    digits = "" if born is None else born.get("value", "")[:8]
    name = next(subject.iter("name"), None)
    return Patient(
        ids=tuple(i[:64] for i in ids if i),
        name="" if name is None else " ".join("".join(name.itertext()).split())[:128],
        birth_date=f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdigit() else "",
        sex="" if gender is None else gender.get("code", "")[:1].upper(),
    )


def _device(series: ET.Element) -> str:
    names = [e.text or "" for e in series.iter("manufacturerModelName")]
    return " ".join(names[0].split())[:120] if names else ""


def _filter(series: ET.Element) -> str:
    """Control variables MDC_ECG_CTL_VBL_ATTR_FILTER_... : low cut, high cut, notch."""
    found: dict[str, str] = {}
    for variable in series.iter("controlVariable"):
        code = next((c.get("code", "") for c in variable.iter("code") if "FILTER" in c.get("code", "")), "")
        for value in variable.iter("value"):
            if value.get("value"):
                found[code] = f"{value.get('value', '')[:12]} {value.get('unit', '')[:6]}".strip()
    parts = []
    for key, word in (("LOW_PASS", "low pass"), ("HIGH_PASS", "high pass"), ("NOTCH", "notch")):
        parts += [f"{word} {text}" for code, text in found.items() if key in code]
    return ", ".join(parts)[:120]
