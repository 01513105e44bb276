"""A strip on paper, made from its samples alone: the same samples and settings give the same bytes (W33).

Each page holds as many seconds as fit at the strip's speed, every lead in a row of its own, on a 1 mm / 5 mm grid with
a 1 mV / 200 ms mark at the left (W28). What has no sample stays blank under a gap mark, a lead that is off says so and
has no line (W2, W6). Identity, times, settings, filters, software, calibration, state, hash and the standing warning
are on every page (W15, W18, W26, W29, W45); so is SIMULATED (W9).

A page is a list of marks in millimetres; `svg` and `pdf` draw the same list.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import Run
from signaling.core.model import EcgSettings, PatientBanner

WIDTH_MM, HEIGHT_MM = 297.0, 210.0
LEFT_MM, TOP_MM, RIGHT_MM, BOTTOM_MM = 20.0, 38.0, 290.0, 196.0
MAX_PAGES: Final = 24
"""A longer strip is not printed to its end; the last sheet says so, and from when on."""
_STAMP_MM: Final = 218.0
"""Where SIMULATED begins; the identity beside it ends there."""
WARNING: Final = "Remote display, delayed. Not for defibrillation, cardioversion, pacing or alarm use."
WARNING_ZH: Final = "远程显示，存在延迟。不得用于除颤、电复律、起搏或报警。"
_RED, _GRID, _GRID5, _INK, _GREY = "#b00020", "#f6d5d5", "#e39a9a", "#111111", "#555555"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn line."""

    points: tuple[Point, ...]
    width: float
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    """A line of writing; ``y`` is its foot."""

    x: float
    y: float
    size: float
    text: str
    colour: str = _INK


@dataclass(slots=True)
class Page:
    """One sheet."""

    marks: list[Line | Text] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """What a print shows."""

    info: StreamInfo
    banner: PatientBanner
    runs: Sequence[Run]
    settings: EcgSettings
    at_us: int
    from_us: int
    to_us: int
    state: str
    age_ms: int | None
    sha256: str
    gaps: int
    lost: int
    id: str


def pages(strip: Strip) -> list[Page]:
    """Sheets of a strip."""
    span_us = max(1, strip.to_us - strip.from_us)
    fitting_us = int((RIGHT_MM - LEFT_MM) / strip.settings.speed * 1_000_000)
    count = min(MAX_PAGES, -(-span_us // fitting_us))
    # Sheets of one length: not a last one with what the others had no room for.
    per_page_us = min(fitting_us, -(-span_us // count))
    sheets = []
    for number in range(count):
        from_us = strip.from_us + number * per_page_us
        page = Page()
        _grid(page)
        _heading(page, strip, from_us, min(strip.to_us, from_us + per_page_us), number + 1, count)
        _traces(page, strip, from_us, from_us + per_page_us)
        sheets.append(page)
    printed_us = strip.from_us + count * per_page_us
    if printed_us < strip.to_us:
        sheets[-1].marks.append(_unprinted(printed_us, strip.to_us))
    return sheets


def _unprinted(from_us: int, to_us: int) -> Text:
    text = f"NOT PRINTED: {_clock(from_us)} to {_clock(to_us)} UTC, a print has at most {MAX_PAGES} sheets"
    return _line(206.5, 4.2, f"{text}  以下未打印：超过 {MAX_PAGES} 页", _RED, right=RIGHT_MM - 20)


def svg(sheets: Sequence[Page]) -> bytes:
    """One SVG, sheets below each other, in true millimetres."""
    height = HEIGHT_MM * len(sheets)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM:g}mm" height="{height:g}mm" '
        f'viewBox="0 0 {WIDTH_MM:g} {height:g}" font-family="sans-serif">',
        f'<rect width="{WIDTH_MM:g}" height="{height:g}" fill="#fff"/>',
    ]
    for number, page in enumerate(sheets):
        parts.append(f'<g transform="translate(0 {number * HEIGHT_MM:g})">')
        for mark in page.marks:
            if isinstance(mark, Text):
                parts.append(
                    f'<text x="{mark.x:g}" y="{mark.y:g}" font-size="{mark.size:g}" fill="{mark.colour}">'
                    f"{escape(_printable(mark.text))}</text>"
                )
            else:
                parts.append(
                    f'<path fill="none" stroke="{mark.colour}" stroke-width="{mark.width:g}" '
                    f'stroke-linejoin="round" d="{_path(mark.points)}"/>'
                )
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts).encode()


def pdf(sheets: Sequence[Page]) -> bytes:
    """A PDF 1.4 of the same marks; Chinese by the reader's own font (Adobe-GB1), as nothing is embedded."""
    objects: list[bytes] = [b"", b""]  # catalogue and page tree, once the pages are known
    fonts = b"<< /L 3 0 R /C 4 0 R >>"
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    objects.append(
        b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UTF16-H /DescendantFonts [<< "
        b"/Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) "
        b"/Ordering (GB1) /Supplement 4 >> /DW 1000 /FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light "
        b"/Flags 6 /FontBBox [-25 -254 1000 880] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 93 >> "
        b">>] >>"
    )
    kids = []
    for page in sheets:
        content = zlib.compress(_pdf_content(page), 6)
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(content) + content + b"\nendstream")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.2f %.2f] /Resources << /Font "
            % (_pt(WIDTH_MM), _pt(HEIGHT_MM))
            + fonts
            + b" >> /Contents %d 0 R >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _grid(page: Page) -> None:
    for number in range(round(RIGHT_MM - LEFT_MM) + 1):
        x = LEFT_MM + number
        page.marks.append(_stroke(((x, TOP_MM), (x, BOTTOM_MM)), number))
    for number in range(round(BOTTOM_MM - TOP_MM) + 1):
        y = TOP_MM + number
        page.marks.append(_stroke(((LEFT_MM, y), (RIGHT_MM, y)), number))


def _stroke(points: tuple[Point, Point], number: int) -> Line:
    return Line(points, 0.12 if number % 5 == 0 else 0.06, _GRID5 if number % 5 == 0 else _GRID)


def _heading(page: Page, strip: Strip, from_us: int, to_us: int, number: int, count: int) -> None:
    banner, settings, info = strip.banner, strip.settings, strip.info
    one, two = banner.identifiers
    page.marks += [
        _line(10, 5, f"{banner.name} {banner.name_latin}".strip(), right=_STAMP_MM),
        _line(
            15, 3.2,
            f"{one.label} {one.value}  |  {two.label} {two.value}  |  {banner.sex}  |  {banner.birth_date}",
            right=_STAMP_MM,
        ),
        _line(20, 3.2, f"{_clock(from_us)} to {_clock(to_us)} UTC  |  marked {_clock(strip.at_us)}"),
        _line(
            25, 3.2,
            f"{settings.speed:g} mm/s  |  {settings.gain:g} mm/mV  |  source filter: {info.filter or 'unknown'}  |  "
            + (f"filter of the view: {settings.filter}, not applied here" if settings.filter else "unfiltered here"),
        ),
        _line(
            30, 3.2,
            f"{info.device}  |  {info.sample_rate_mhz / 1000:g} Hz  |  {info.lsb_nv / 1000:g} uV/step  |  "
            f"gaps {strip.gaps}  |  samples lost per lead {strip.lost}  |  seen as {strip.state}, "
            + ("age unknown" if strip.age_ms is None else f"{strip.age_ms} ms old"),
        ),
        _line(
            35, 2.6,
            f"strip {strip.id}  |  sha256 {strip.sha256}  |  {settings.software}  |  calibration "
            f"{settings.calibration or 'none'}",
            _GREY,
        ),
        _line(202, 3.2, f"{WARNING}  {WARNING_ZH}", _RED),
        Text(RIGHT_MM - 18, 207, 2.6, f"page {number} of {count}", _GREY),
    ]  # fmt: skip
    if info.simulated:
        page.marks.append(Text(_STAMP_MM, 12, 8, "SIMULATED 模拟", _RED))
    elif banner.test:
        page.marks.append(Text(RIGHT_MM - 40, 12, 6, "test patient", _RED))


def _line(y: float, size: float, text: str, colour: str = _INK, right: float = RIGHT_MM) -> Text:
    """Writing from the left margin, smaller where it would leave the sheet: half an identifier is another patient's."""
    return Text(LEFT_MM, y, min(size, (right - LEFT_MM) / max(1.0, ems(text))), text, colour)


def ems(text: str) -> float:
    """What a text takes in units of its size, rather more than less, whatever sans-serif font is there."""
    return sum(1.0 if ord(character) >= 0x2E80 else 0.64 for character in text)


def _traces(page: Page, strip: Strip, from_us: int, to_us: int) -> None:
    leads = strip.info.leads
    row_mm = (BOTTOM_MM - TOP_MM) / len(leads)
    for lead, name in enumerate(leads):
        middle = TOP_MM + (lead + 0.55) * row_mm
        page.marks.append(_calibration(strip, middle))
        page.marks.append(Text(1.5, middle - 4, 3.2, name))
        for run in strip.runs:
            _trace(page, strip, run, lead, middle, from_us, to_us)
    for run in strip.runs:
        _events(page, strip, run, from_us, to_us, row_mm)


def _calibration(strip: Strip, middle: float) -> Line:
    """1 mV high, 200 ms wide."""
    height, width = strip.settings.gain, 0.2 * strip.settings.speed
    left = LEFT_MM - 2 - width
    points = ((left - 1, middle), (left, middle), (left, middle - height), (left + width, middle - height),
              (left + width, middle), (left + width + 1, middle))  # fmt: skip
    return Line(points, 0.3, _INK)


def _trace(page: Page, strip: Strip, run: Run, lead: int, middle: float, from_us: int, to_us: int) -> None:
    first = max(0, -((run.start_us - from_us) * run.rate_mhz // 1_000_000_000))
    last = min(run.cells, (to_us - run.start_us) * run.rate_mhz // 1_000_000_000 + 1)
    if last <= first:
        return
    valid = run.valid[lead, first:last]
    mm_per_cell = strip.settings.speed * 1000 / run.rate_mhz
    start_x = LEFT_MM + (run.start_us - from_us) / 1e6 * strip.settings.speed
    y = middle - run.values[lead, first:last] * (run.lsb_nv / 1e6 * strip.settings.gain)
    # A peak that leaves the grid is cut off there and pointed at; along the edge it would look like a plateau (W1).
    above, below = valid & (y < TOP_MM), valid & (y > BOTTOM_MM)
    for beyond, sign, foot in ((above, "^", TOP_MM + 2), (below, "v", BOTTOM_MM - 0.5)):
        for cell in np.flatnonzero(np.diff(np.concatenate(([False], beyond))) & beyond):
            x = start_x + (first + int(cell)) * mm_per_cell
            if LEFT_MM <= x <= RIGHT_MM:
                page.marks.append(Text(x, foot, 3.2, sign, _RED))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], valid & ~above & ~below, [False]))))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        cells = np.arange(first + begin, first + end)
        xs = start_x + cells * mm_per_cell
        inside = (xs >= LEFT_MM - 1e-9) & (xs <= RIGHT_MM + 1e-9)
        points = tuple(zip(xs[inside].tolist(), y[begin:end][inside].tolist(), strict=True))
        if points:
            page.marks.append(Line(points, 0.25, _INK))


def _events(page: Page, strip: Strip, run: Run, from_us: int, to_us: int, row_mm: float) -> None:
    names = {"lead_off": "LEAD OFF", "lost": "LOST", "source_gap": "GAP", "gap": "GAP", "artefact": "ARTEFACT",
             "saturated": "SATURATED", "pace": "P", "session": "|", "clock_unsynced": "CLOCK?"}  # fmt: skip
    for event in run.events:
        at_us = run.time_us(event.sample)
        until_us = at_us if event.until is None else run.time_us(event.until)
        if until_us < from_us or at_us > to_us or event.kind not in names:
            continue
        x = LEFT_MM + max(0.0, (at_us - from_us) / 1e6 * strip.settings.speed)
        if x > RIGHT_MM:
            continue
        y = TOP_MM + (3 if event.lead is None else (event.lead + 0.55) * row_mm - 1)
        page.marks.append(Text(x, y, 2.4, names[event.kind], _RED))


def _path(points: tuple[Point, ...]) -> str:
    """Absolute start, then relative steps in hundredths of a millimetre that do not add up errors."""
    x, y = round(points[0][0] * 100), round(points[0][1] * 100)
    parts = [f"M{x / 100:g} {y / 100:g}"]
    for px, py in points[1:]:
        nx, ny = round(px * 100), round(py * 100)
        parts.append(f"l{(nx - x) / 100:g} {(ny - y) / 100:g}")
        x, y = nx, ny
    return "".join(parts)


def _pdf_content(page: Page) -> bytes:
    out: list[bytes] = [b"1 j"]
    for mark in page.marks:
        red, green, blue = (int(mark.colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        if isinstance(mark, Line):
            out.append(b"%.3f %.3f %.3f RG %.3f w" % (red, green, blue, _pt(mark.width)))
            moves = [
                b"%.2f %.2f %s" % (_pt(x), _pt(HEIGHT_MM - y), b"l" if n else b"m")
                for n, (x, y) in enumerate(mark.points)
            ]
            out += [*moves, b"S"]
        else:
            out.append(b"BT %.3f %.3f %.3f rg" % (red, green, blue))
            out.append(b"1 0 0 1 %.2f %.2f Tm" % (_pt(mark.x), _pt(HEIGHT_MM - mark.y)))
            out += [_pdf_text(part, _pt(mark.size)) for part in _scripts(_printable(mark.text))]
            out.append(b"ET")
    return b"\n".join(out)


def _scripts(text: str) -> list[str]:
    """Stretches of Latin and of everything else."""
    parts: list[str] = []
    for character in text:
        if parts and (ord(character) < 128) == (ord(parts[-1][-1]) < 128):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _pdf_text(part: str, size_pt: float) -> bytes:
    if ord(part[0]) < 128:
        plain = part.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)").encode("ascii")
        return b"/L %.2f Tf (%s) Tj" % (size_pt, plain)
    return b"/C %.2f Tf <%s> Tj" % (size_pt, part.encode("utf-16-be").hex().encode())


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _pt(mm: float) -> float:
    return mm * 72 / 25.4


def _clock(at_us: int) -> str:
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at_us % 1_000_000 // 1000:03}"
