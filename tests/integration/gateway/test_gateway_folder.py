"""Files that the hospital's programs write into a folder."""

import asyncio
import contextlib
import errno
import io
import os
import re
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from edfio import Edf, EdfSignal
from edfio import Patient as EdfPatient
from pydicom.data import get_testdata_file

from server.gateway.adapters import folder
from server.gateway.adapters.files import FileRefused, FileRules
from server.gateway.adapters.folder import FolderWatch, WatchedFolder
from server.gateway.core.crossing import LockRefused, RefusalCode
from tests.hl7v2_kit import MRN, PROFILE, RESULT, Shelf, message
from tests.shared_data import shared

DEADLINE_S = 60
RULES = FileRules(
    patient_system=MRN, name_pattern=re.compile(r"(?P<patient>\d+)_.*"), issuers={"": MRN}
)  # fmt: skip
PDF = b"%PDF-1.7 a report"


@contextlib.asynccontextmanager
async def watching(path: Path, shelf: Shelf, now_s: Callable[[], float] | None = None) -> AsyncIterator[FolderWatch]:
    stable_s = 0.0 if now_s is None else 2.0
    watched = WatchedFolder(name="drop", path=path, rules=RULES, stable_s=stable_s, look_s=0.01)
    watch = FolderWatch(watched, PROFILE, now_s=now_s or time.monotonic)
    task = asyncio.create_task(watch.run(shelf))
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir()) if path.exists() else []


def waiting(path: Path) -> list[str]:
    return [name for name in names(path) if name not in ("done", "failed")]


def edf(patient: str) -> bytes:
    out = io.BytesIO()
    samples = np.sin(np.arange(2500) / 20)
    signal = EdfSignal(samples, 250, label="ECG II", physical_dimension="mV", physical_range=(-2, 2))
    Edf([signal], patient=EdfPatient(code=patient)).write(out)
    return out.getvalue()


def dicom() -> bytes:
    path = get_testdata_file("waveform_ecg.dcm")
    assert isinstance(path, str)
    found, out = pydicom.dcmread(path), io.BytesIO()
    found.PatientID, found.IssuerOfPatientID = "10042", ""
    found.save_as(out)
    return out.getvalue()


async def test_files_are_known_by_their_bytes_and_moved_when_they_are_kept(tmp_path: Path) -> None:
    """Endings lie here on purpose."""
    shelf = Shelf()
    batch = b"BHS|^~\\&|\r" + message("ADT^A08") + message("ORU^R01", *RESULT, control="C2") + b"BTS|2\r"
    for number, (name, data) in enumerate(
        {"a.pdf": batch, "b.txt": dicom(), "c.hl7": edf("10042"), "10042_scan.dcm": PDF}.items()
    ):
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (number, number))
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "coming.edf.part").write_bytes(b"x")
    async with watching(tmp_path, shelf):
        await until(lambda: len(names(tmp_path / "done")) == 4)
    assert [one.kind for one in shelf.kept] == [
        "ADT^A08", "ORU^R01", "DICOM ECG", "FHIR DocumentReference", "waveform edf", "FHIR DocumentReference"
    ]  # fmt: skip
    assert {one.patient[0] for one in shelf.kept} == {(MRN, "10042")}
    assert dict(shelf.kept[4].about)["leads"] == "II"
    assert waiting(tmp_path) == [".hidden", "coming.edf.part"]
    assert names(tmp_path / "failed") == []


async def test_what_can_never_be_taken_fails_with_its_reason_and_without_its_content(tmp_path: Path) -> None:
    shelf = Shelf()
    outside = tmp_path.parent / "outside.pdf"
    outside.write_bytes(PDF)
    wrong = {
        "noise.bin": b"\x00\x01\x02", "empty.edf": b"", "nobody.pdf": PDF, "cut.edf": edf("10042")[:300],
        "bad.hl7": message("ADT^A08") + message("ADT^A99", control="C2"), "anonymous.edf": edf("X"),
    }  # fmt: skip
    drop = tmp_path / "drop"
    drop.mkdir()
    for name, data in wrong.items():
        (drop / name).write_bytes(data)
    (drop / "link.pdf").symlink_to(outside)
    async with watching(drop, shelf):
        await until(lambda: len(names(drop / "failed")) == 2 * (len(wrong) + 1))
    reasons = {one.name.removesuffix(".reason.txt"): one.read_text() for one in (drop / "failed").glob("*.reason.txt")}
    first_words = {name: text.split()[0] for name, text in reasons.items()}
    assert first_words == {
        "noise.bin": "source_unknown_format", "empty.edf": "source_truncated", "nobody.pdf": "no_patient",
        "cut.edf": first_words["cut.edf"], "bad.hl7": "event", "anonymous.edf": "no_patient",
        "link.pdf": "not_a_file",
    }  # fmt: skip
    assert first_words["cut.edf"].startswith("source_")
    assert all("Wang" not in text and "10042" not in text for text in reasons.values())
    assert outside.exists()
    assert not [one for one in shelf.kept if one.kind.startswith("ADT")], "a batch is taken whole or not"


async def test_a_file_that_still_grows_is_left_alone(tmp_path: Path) -> None:
    shelf, clock = Shelf(), [0.0]
    whole, file = message("ADT^A08"), tmp_path / "growing.hl7"
    async with watching(tmp_path, shelf, lambda: clock[0]) as watch:
        for size in (40, 100, 160, len(whole)):
            file.write_bytes(whole[:size])
            seen = watch.rounds
            await until(lambda seen=seen: watch.rounds > seen + 1)  # type: ignore[misc]
            clock[0] += 1.9
            await until(lambda seen=seen: watch.rounds > seen + 3)  # type: ignore[misc]
        assert waiting(tmp_path) == ["growing.hl7"]
        clock[0] += 0.2
        await until(lambda: names(tmp_path / "done") == ["growing.hl7"])
    assert [one.kind for one in shelf.kept] == ["ADT^A08"]
    assert names(tmp_path / "failed") == []


async def test_a_full_journal_leaves_files_in_place_and_a_crash_before_the_move_repeats_nothing(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.refuse = LockRefused(RefusalCode.FULL)
    (tmp_path / "one.hl7").write_bytes(message("ADT^A08"))
    async with watching(tmp_path, shelf) as watch:
        await until(lambda: watch.rounds > 5)
        assert waiting(tmp_path) == ["one.hl7"]
        shelf.refuse = None
        await until(lambda: names(tmp_path / "done") == ["one.hl7"])
    (tmp_path / "one.hl7").write_bytes(message("ADT^A08"))  # as if the move had not happened
    async with watching(tmp_path, shelf):
        await until(lambda: names(tmp_path / "done") == ["one.1.hl7", "one.hl7"])
    assert len(shelf.kept) == 1
    shelf.refuse = LockRefused(RefusalCode.NOT_ALLOWED)
    (tmp_path / "two.hl7").write_bytes(message("ADT^A08", control="C9"))
    async with watching(tmp_path, shelf):
        await until(lambda: names(tmp_path / "failed") == ["two.hl7", "two.hl7.reason.txt"])


async def test_a_file_that_cannot_be_moved_holds_up_no_other_and_its_name_is_in_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """[G8] File names are patients' names often enough."""
    shelf, move = Shelf(), folder._move

    def refuse(path: Path, target: Path) -> str:
        if "Wang" in path.name:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return move(path, target)

    monkeypatch.setattr(folder, "_move", refuse)
    (tmp_path / "1_Wang.hl7").write_bytes(message("ADT^A08"))
    (tmp_path / "2_Wang.pdf").write_bytes(b"noise")
    os.utime(tmp_path / "1_Wang.hl7", (1, 1))
    async with watching(tmp_path, shelf) as watch:
        (tmp_path / "3.hl7").write_bytes(message("ADT^A08", control="C3"))
        await until(lambda: names(tmp_path / "done") == ["3.hl7"])
        seen = watch.rounds
        await until(lambda: watch.rounds > seen + 3)
        assert len(shelf.kept) == 2, "what was kept is kept once"
        assert waiting(tmp_path) == ["1_Wang.hl7", "2_Wang.pdf"]
    told = capsys.readouterr().out
    assert "Wang" not in told
    assert told.count("file could not be moved") == 2


def test_a_link_that_takes_a_files_place_is_not_followed(tmp_path: Path) -> None:
    """Between the look and the reading; else whoever writes the folder could read the gateway's own files."""
    (tmp_path / "secret").write_bytes(PDF)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(FileRefused):
            folder._bytes_of(tmp_path / name, 1_000)
    with pytest.raises(FileRefused):
        folder._bytes_of(tmp_path / "secret", 3)


async def test_a_subfolder_is_one_record(tmp_path: Path) -> None:
    """WFDB: the header names its signal files; the crossing is a ZIP of them, the same each time."""
    source = shared("ecg/ptb/s0010_re.hea").parent
    shelf = Shelf()
    for name in ("10042_a", "10042_b"):
        (tmp_path / name).mkdir()
        for file in source.iterdir():
            if file.suffix in (".hea", ".dat", ".xyz"):
                (tmp_path / name / file.name).write_bytes(file.read_bytes())
    async with watching(tmp_path, shelf):
        await until(lambda: names(tmp_path / "done") == ["10042_a", "10042_b"])
    (record,) = shelf.kept
    assert (record.kind, record.media_type, record.patient) == ("waveform wfdb", "application/zip", ((MRN, "10042"),))
    assert len(zipfile.ZipFile(io.BytesIO(record.body)).namelist()) >= 2
    assert dict(record.about)["format"] == "wfdb"
