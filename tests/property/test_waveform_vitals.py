"""Laws of vital signs on the wire: what is true comes back exactly, everything else is one typed error."""

from __future__ import annotations

import contextlib
import math

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.waveform.vitals import (
    KINDS,
    MAX_VITAL_BYTES,
    MalformedVital,
    Pressure,
    ReportedAlarm,
    VitalSign,
    build_vital,
    read_vital,
)

versions = st.integers(0, 2**32 - 1)
times = st.integers(0, 2**53 - 1)


@st.composite
def signs(draw: st.DrawFn) -> VitalSign:
    code = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[code]
    number = st.integers(int(kind.low), int(kind.high)) | st.floats(kind.low, kind.high)
    value: float | Pressure | None = draw(st.none() | number)
    if value is not None and code == "NIBP":
        low, mid, high = sorted(draw(st.tuples(number, number, number)))
        value = (high, low, draw(st.sampled_from([mid, None])))
    quality = draw(st.sampled_from(["questionable", "invalid"] if value is None else ["ok", "questionable", "invalid"]))
    return VitalSign(draw(versions), code, value, kind.unit, draw(times), quality, draw(st.booleans()))  # type: ignore[arg-type] # drawn from the literals


alarms = st.builds(
    ReportedAlarm,
    versions,
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=60),
    times,
    st.sampled_from(["low", "medium", "high"]),
    st.booleans(),
)


@given(signs() | alarms)
def test_what_is_sent_is_what_is_read(value: VitalSign | ReportedAlarm) -> None:
    """[WF12] [WF14] (W8, W36) Number, time, quality and mark, to the last bit."""
    message = build_vital(value)
    assert read_vital(message) == value
    assert len(message) <= MAX_VITAL_BYTES


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=600))
def test_rubbish_raises_only_malformed_vital(data: bytes) -> None:
    """[WF12] Whatever the bytes."""
    with contextlib.suppress(MalformedVital):
        read_vital(data)


things: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(signs() | alarms, st.sampled_from(["t", "cv", "code", "v", "u", "at", "q", "sim", "text", "prio", "x"]), things)
def test_any_field_may_be_anything(value: VitalSign | ReportedAlarm, name: str, thing: object) -> None:
    """[WF12] [WF13] What passes can be true: in its unit and range, with a number or a reason why there is none."""
    fields = msgpack.unpackb(build_vital(value))
    fields[name] = thing
    try:
        read = read_vital(msgpack.packb(fields))
    except MalformedVital:
        return
    if isinstance(read, ReportedAlarm):
        assert read.text.strip()
        return
    kind = KINDS[read.code]
    assert read.unit == kind.unit
    numbers = read.value if isinstance(read.value, tuple) else (read.value,)
    assert all(n is None or (math.isfinite(n) and kind.low <= n <= kind.high) for n in numbers)
    assert read.value is not None or read.quality != "ok"


GOOD = {"t": "vital", "cv": 3, "code": "HR", "v": 72, "u": "/min", "at": 5, "q": "ok", "sim": False}
PRESSURE = {**GOOD, "code": "NIBP", "u": "mm[Hg]"}


@pytest.mark.parametrize(
    "fields",
    [
        {**GOOD, "v": 401},
        {**GOOD, "v": -1},
        {**GOOD, "v": math.nan},
        {**GOOD, "v": math.inf},
        {**GOOD, "v": "72"},
        {**GOOD, "v": True},
        {**GOOD, "v": [72, 72, 72]},
        {**GOOD, "v": None},
        {**GOOD, "u": "bpm"},
        {**GOOD, "code": "Temp", "v": 98.6, "u": "Cel"},
        {**GOOD, "code": "Temp", "v": 37, "u": "[degF]"},
        {**GOOD, "at": 1.5},
        {**GOOD, "at": -1},
        {**GOOD, "cv": 2**32},
        {**GOOD, "q": "fine"},
        {**GOOD, "sim": 1},
        {**GOOD, "note": "x"},
        {key: value for key, value in GOOD.items() if key != "v"},
        {**PRESSURE, "v": 120},
        {**PRESSURE, "v": [120, 80]},
        {**PRESSURE, "v": [80, 120, 90]},
        {**PRESSURE, "v": [120, 80, 130]},
        {**PRESSURE, "v": [120, None, None]},
        {"t": "alarm", "cv": 3, "text": "  ", "at": 5, "prio": "high"},
        {"t": "alarm", "cv": 3, "text": "ASYSTOLE\u202e", "at": 5, "prio": "high"},
        {"t": "alarm", "cv": 3, "text": "ASYSTOLE", "at": 5, "prio": "deadly"},
        {"t": "ack", "cv": 3},
    ],
)
def test_what_cannot_be_true_is_refused_whole(fields: dict[str, object]) -> None:
    """[WF12] [WF13] [WF14] Never clipped, never converted, never shown nearly right."""
    with pytest.raises(MalformedVital):
        read_vital(msgpack.packb(fields))


def test_what_is_true_is_taken() -> None:
    """[WF12] The same messages without what was wrong with them."""
    assert read_vital(msgpack.packb(GOOD)) == VitalSign(3, "HR", 72, "/min", 5, "ok", False)
    taken = read_vital(msgpack.packb({**PRESSURE, "v": [120, 80, None]}))
    assert isinstance(taken, VitalSign)
    assert taken.value == (120, 80, None)
    with pytest.raises(MalformedVital):
        read_vital(msgpack.packb({**GOOD, "x": "y" * 600}))
