"""Who was there and never got what was there to be had is counted as missing, in the figure that it is missing from."""

from __future__ import annotations

from typing import Any

import pytest

from load_tests.plan.reading import parse_scenario
from load_tests.plan.timetable import timetable
from load_tests.report.ledger import Ledger
from load_tests.session.participant import Participant, Setting
from load_tests.session.world import ConsultSecrets, World

CONSULT = ConsultSecrets(
    id="c",
    patient="p",
    identifiers=("a", "b"),
    doctors=("d",),
    partner_doctors=(),
    rooms=(),
    devices=(),
    screens=("s",),
)
VIDEO, AUDIO = ({"participant": "other", "kind": kind} for kind in ("video", "audio"))
MINE = {"participant": "me", "kind": "video"}
WAVE = {"participant": "monitor", "waveform": True}


@pytest.mark.parametrize(
    ("behaviour", "producers", "waves", "missing"),
    [
        ("doctor", [VIDEO, AUDIO], [WAVE], {"join_first_sound_ms", "join_first_picture_ms", "join_first_wave_ms"}),
        ("doctor", [MINE], [], set()),  # alone there is nothing to be had
        ("doctor", [AUDIO], [], {"join_first_sound_ms"}),
        ("wall_ecg", [VIDEO, AUDIO], [WAVE], {"join_first_wave_ms"}),
        ("listener", [VIDEO], [WAVE], set()),
    ],
)
async def test_what_never_came_is_missing(
    behaviour: str, producers: list[dict[str, Any]], waves: list[dict[str, Any]], missing: set[str]
) -> None:
    content = {"name": "x", "about": "", "duration_s": 9, "population": [{"behaviour": behaviour}]}
    ledger = Ledger()
    setting: Any = Setting(("http://127.0.0.1:9",), World(password="x", consults=(CONSULT,)), None, ledger)  # type: ignore[arg-type]
    session = Participant(timetable(parse_scenario(content, "x"))[0], setting)
    session.view.you = "me"
    session.view.producers = {str(number): one for number, one in enumerate(producers)}
    session.view.waves = {str(number): one for number, one in enumerate(waves)}
    await session._end()
    assert {name for name, one in ledger.distributions.items() if one.missing} == {"join_ms"} | missing
    assert all(one.missing == 1 for one in ledger.distributions.values() if one.missing)
