"""What a person types at the bed: every way it cannot work is a sentence, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from media.sources.simulator import SimulatedMonitor
from server.bedside.choose import choose
from server.bedside.program import SECRET, Elsewhere, Given, bedside_for, device_secret, origin_of
from server.exits import Exit, StartError
from signaling.core.errors import ErrorCode
from signaling.core.ids import ParticipantId, PatientId
from signaling.core.model import Context, Identifier, Mismatch, PatientBanner, UnboundReason

BOTH = (Identifier(label="MRN", value="1"), Identifier(label="ID", value="2"))
CONTEXT = Context(
    version=1, opened_at_ms=1, opened_by=ParticipantId("d"),
    patient=PatientBanner(id=PatientId("p"), name="n", sex="male", birth_date="1960-01-01", identifiers=BOTH),
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "more", "sentence"),
    [
        ("simulator:waltz", {}, "Rhythms: sinus"),
        ("simulator", {"rate_bpm": 900.0}, "rate_bpm"),
        ("simulator", {"artefacts": ["ghost:V2"]}, "Artefacts: mains"),
        ("simulator", {"artefacts": ["off:V2:soon-later"]}, "Artefacts: mains"),
        ("file:/nowhere/record.edf", {}, "missing"),
        ("lsl:x", {"rate_bpm": 70.0}, "never changed"),
        ("hl7:", {}, "--source must be"),
        ("telepathy", {}, "--source must be"),
    ],
)
def test_a_source_that_cannot_be_is_said_in_a_sentence(source: str, more: dict[str, object], sentence: str) -> None:
    given: dict[str, object] = {"rate_bpm": None, "artefacts": [], "seed": 1} | more
    with pytest.raises(StartError) as raised:
        choose(source, **given)  # type: ignore[arg-type]
    assert sentence in str(raised.value)
    assert raised.value.exit_code is Exit.SETTINGS


def test_an_artefact_has_a_place_and_a_time() -> None:
    source = choose("simulator:af", rate_bpm=None, artefacts=["off:V2:10-20", "mains"], seed=1)
    assert isinstance(source, SimulatedMonitor)
    off, mains = source.simulator.settings.artefacts
    assert (off.kind, off.where, off.from_s, off.until_s) == ("off", "V2", 10, 20)
    assert (mains.kind, mains.from_s, mains.until_s) == ("mains", 0, float("inf"))


def test_a_file_that_is_played_is_marked_simulated_and_names_its_patient(tmp_path: Path) -> None:
    """[W9] [W22]"""
    from pydicom.data import get_testdata_file

    source = choose(
        f"file:{get_testdata_file('waveform_ecg.dcm', download=False)}", rate_bpm=None, artefacts=[], seed=1
    )
    assert source.format.simulated  # type: ignore[attr-defined]


@pytest.mark.parametrize("confirm", [["one"], ["a", "a "], ["a", "b", "c"], ["a", " "]])
def test_two_different_identifiers_are_needed(confirm: list[str]) -> None:
    """[W20]"""
    with pytest.raises(StartError):
        bedside_for(confirm)


async def test_identifiers_from_the_command_line_are_good_for_one_binding() -> None:
    """[W20] Binding again is an act at the bed, not a loop."""
    bed = bedside_for(["1", "2"])
    assert isinstance(bed, Given)
    assert await bed.identifiers(CONTEXT) == ("1", "2")
    assert await bed.identifiers(CONTEXT) is None
    assert all(bed.unbound(reason, None) for reason in UnboundReason)
    assert bed.refused(ErrorCode.IDENTIFIERS_WRONG)


async def test_where_staff_bind_in_the_consult_only_a_mismatch_ends_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """[W22] Both ids are shown."""
    bed = Elsewhere()
    assert await bed.identifiers(CONTEXT) is None
    assert not bed.unbound(UnboundReason.EXPIRED, None)
    assert "time is over" in capsys.readouterr().out
    mismatch = Mismatch(
        device=ParticipantId("m"), patient=PatientId("p"), identifiers=BOTH, reported="X-9", context_version=1, at_ms=1
    )
    assert bed.unbound(UnboundReason.MISMATCH, mismatch)
    said = capsys.readouterr().out
    assert "MRN 1" in said
    assert "X-9" in said


def test_every_reason_has_words(capsys: pytest.CaptureFixture[str]) -> None:
    for reason in (*UnboundReason, None):
        Given(("1", "2")).unbound(reason, None)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "。" in line]) >= len(UnboundReason) + 1


@pytest.mark.parametrize(
    ("typed", "origin"),
    [
        ("https://hub.example", "https://hub.example"), ("hub.example:8443/", "https://hub.example:8443"),
        ("http://127.0.0.1:8440", "http://127.0.0.1:8440"),
    ],
)  # fmt: skip
def test_the_hubs_address_as_people_type_it(typed: str, origin: str) -> None:
    assert origin_of(typed) == origin


@pytest.mark.parametrize("typed", ["http://hub.example", "ftp://hub", "https://hub/path", "https://", "https://h?x=1"])
def test_plain_http_to_another_machine_and_nonsense_are_refused(typed: str) -> None:
    """[G4]"""
    with pytest.raises(StartError):
        origin_of(typed)


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(StartError):
        device_secret(None)
    monkeypatch.setenv(SECRET, "abc")
    assert device_secret(None) == "abc"
    file = tmp_path / "secret"
    file.write_text("xyz\n")
    assert device_secret(file) == "xyz"
    with pytest.raises(StartError):
        device_secret(tmp_path / "none")
