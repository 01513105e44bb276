"""A strip on paper: whole identity, whole marks, nothing drawn that was not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.waveforms.core import paper
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import Run
from signaling.core.model import EcgSettings, Identifier, PatientBanner

AT_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
INFO = StreamInfo(
    archive="a", consult="c", stream_id=7, kind="live", title="", device="monitor", leads=("I", "II"),
    sample_rate_mhz=500_000, lsb_nv=1_000, filter="0.05-150 Hz", simulated=True, patient="p",
)  # fmt: skip
BANNER = PatientBanner(
    id="p",
    name="沈静秋",
    sex="female",
    birth_date="1964-03-14",
    identifiers=(
        Identifier(label="病历号 MRN", value="T-0417-23"),
        Identifier(label="身份证号 ID", value="TEST-19640314-0001-" + 60 * "9"),
    ),
)


def strip(values: Any, *, filtered: str = "", gain: float = 10, span_us: int = 20 * SECOND_US) -> paper.Strip:
    """Both leads with these steps of 1 uV at 500 Hz, from the beginning on."""
    steps = np.array([values, values], dtype=np.int16)
    run = Run(AT_US, 0, 0, 500_000, 1_000, steps, np.ones_like(steps, dtype=bool))
    settings = EcgSettings(
        speed=25, gain=gain, layout="3x4", order="standard", filter=filtered, calibration="", software="Consilium 1"
    )
    return paper.Strip(
        info=INFO, banner=BANNER, runs=[run], settings=settings, at_us=AT_US + span_us // 2, from_us=AT_US,
        to_us=AT_US + span_us, state="LIVE", age_ms=200, sha256="0" * 64, gaps=0, lost=0, id="s1",
    )  # fmt: skip


def words(page: paper.Page) -> list[paper.Text]:
    """Everything written on a sheet."""
    return [mark for mark in page.marks if isinstance(mark, paper.Text)]


def test_identity_and_simulated_are_whole_on_every_sheet() -> None:
    """(W9, W18) Nothing runs off the sheet or over its neighbour, however long it is."""
    for page in paper.pages(strip([0])):
        written = words(page)
        assert all(text.x + text.size * paper.ems(text.text) <= paper.WIDTH_MM for text in written)
        [who] = [text for text in written if "T-0417-23" in text.text]
        assert all(part in who.text for part in (60 * "9", "female", "1964-03-14"))
        [stamp] = [text for text in written if text.text.startswith("SIMULATED")]
        beside = [text for text in written if text.y < 18 and text is not stamp]
        assert all(text.x + text.size * paper.ems(text.text) <= stamp.x for text in beside)


@pytest.mark.parametrize(("span_us", "sheets"), [(20 * SECOND_US, 2), (20 * SECOND_US + 2_000, 2), (SECOND_US, 1)])
def test_sheets_are_of_one_length(span_us: int, sheets: int) -> None:
    """One sample more is no sheet of its own."""
    assert len(paper.pages(strip([0], span_us=span_us))) == sheets


def test_a_print_that_ends_before_its_strip_says_so_on_its_last_sheet() -> None:
    """(W33) Nothing stops in silence: from when on it is not printed, inside the sheet, and on that sheet alone."""
    whole = 24 * 10_800_000  # 270 mm at 25 mm/s
    assert not any(
        "NOT PRINTED" in text.text for page in paper.pages(strip([0], span_us=whole)) for text in words(page)
    )
    sheets = paper.pages(strip([0], span_us=whole + 60 * SECOND_US))
    said = [[text for text in words(page) if "NOT PRINTED" in text.text] for page in sheets]
    assert [len(texts) for texts in said] == [0] * 23 + [1]
    [text] = said[-1]
    begin = paper._clock(AT_US + whole)
    assert begin in text.text
    [number] = [one for one in words(sheets[-1]) if one.text == "page 24 of 24"]
    assert text.x + text.size * paper.ems(text.text) <= number.x


@pytest.mark.parametrize(
    ("filtered", "said"), [("", "unfiltered here"), ("ST 0.05-40 Hz", "filter of the view: ST 0.05-40 Hz, not applied")]
)
def test_filters_are_named_as_what_they_are(filtered: str, said: str) -> None:
    """(W29) The source's apart from the view's, and the view's only where there was one."""
    [line] = [text.text for text in words(paper.pages(strip([0], filtered=filtered))[0]) if "mm/mV" in text.text]
    assert "source filter: 0.05-150 Hz" in line
    assert said in line


def test_a_peak_that_leaves_the_grid_is_no_plateau() -> None:
    """(W1) Beyond the grid nothing is drawn; where it left is pointed at."""
    steps = np.zeros(1000, dtype=np.int16)
    steps[200:260], steps[600:660] = 30_000, -30_000
    page = paper.pages(strip(steps, gain=20))[0]
    ink = [mark for mark in page.marks if isinstance(mark, paper.Line) and mark.width == 0.25]
    edges = (paper.TOP_MM, paper.BOTTOM_MM)
    assert not [point for line in ink for point in line.points if min(abs(point[1] - edge) for edge in edges) < 0.01]
    signs = [text for text in words(page) if text.text in "^v"]
    assert {text.text for text in signs} == {"^", "v"}
    assert min(text.x for text in signs) == pytest.approx(paper.LEFT_MM + 200 / 500 * 25)
