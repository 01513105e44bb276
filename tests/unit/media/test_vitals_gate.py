"""What the relay lets through of a source of vital signs."""

from __future__ import annotations

import pytest

from media.aio.data import VITALS_BURST, VITALS_PER_S, VitalsGate
from media.core.waveform.vitals import ReportedAlarm, VitalSign, build_vital

SECOND_US = 1_000_000


def heart(simulated: bool) -> bytes:
    return build_vital(VitalSign(3, "HR", 72, "/min", 5, "ok", simulated))


@pytest.mark.parametrize("simulated", [True, False])
def test_the_mark_is_what_the_source_was_announced_as(simulated: bool) -> None:
    """[WF15] (W9) Neither is a simulated number taken for real nor a real one for simulated; nor an alarm."""
    gate = VitalsGate(simulated)
    assert gate.refusal(heart(simulated), 0) is None
    assert gate.refusal(heart(not simulated), 0) == "vitals_simulated_flag"
    alarm = ReportedAlarm(3, "ASYSTOLE", 5, "high", not simulated)
    assert gate.refusal(build_vital(alarm), 0) == "vitals_simulated_flag"


def test_rubbish_is_counted_and_not_passed_on() -> None:
    """[WF12]"""
    assert VitalsGate(False).refusal(b"\xc1", 0) == "vitals_malformed"


def test_so_many_at_once_and_so_many_a_second() -> None:
    """[WF15] Rubbish counts too: a flood of it is not parsed for ever."""
    gate = VitalsGate(False)
    taken = [gate.refusal(heart(False) if number % 2 else b"", 0) for number in range(200)]
    assert sum(refusal != "vitals_too_many" for refusal in taken) == VITALS_BURST
    later = [gate.refusal(heart(False), SECOND_US) for _ in range(200)]
    assert later.count(None) == VITALS_PER_S
