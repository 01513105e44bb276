"""A real Chromium that takes part in a load run decodes what simulated cameras send, and is reported apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.report.summary import Summary

SCENARIO = """
name = "watched"
about = "Two doctors and a monitor, watched."
duration_s = 30
sign_in = false
record_resources = 10
[[population]]
behaviour = "doctor"
change = { turn_every_s = 1 }
[[population]]
behaviour = "partner_doctor"
[[population]]
behaviour = "bedside_monitor"
"""


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_witness_sees_pictures_the_ecg_and_page_turns(tmp_path: Path) -> None:
    scenario = tmp_path / "watched.toml"
    scenario.write_text(SCENARIO)
    done = subprocess.run(
        [sys.executable, "-m", "load_tests", str(scenario), "--witnesses", "1", "--results", str(tmp_path / "results")],
        capture_output=True, text=True, timeout=350, check=False,
    )  # fmt: skip
    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    (witness,) = summary.witnesses
    assert not witness.problem, done.stderr
    seen, counts = witness.distributions, witness.counts
    assert counts["frames_decoded"] > 0
    assert counts["ecg_live"] > 0
    assert {"first_picture_ms", "forward_ms", "event_ms", "ecg_age_ms"} <= set(seen)
    assert witness.cpu_cores > 0
    # It is in no figure of the sessions: neither joined for them nor left behind.
    assert summary.counts["joins_tried"] == 3
    assert summary.derived["ghosts"] == 0
    assert {one.witness for one in summary.beside} >= {"forward_ms", "ecg_age_ms", "event_ms"}
    assert "chromium-0" in (folder / "report.html").read_text()
