"""One frame of a DICOM image as a PNG, with what a reader must know of it; no I/O.

The server draws, so that a browser needs no DICOM program, and every screen of a
consult shows the same grey values. This is a picture to talk about, not to
diagnose from: 8 bits of grey, and the page says so. The grey window is named in
the answer; distances are told only where the file says what a pixel measures.

A file is a stranger's: its size is looked at before anything is decoded, and one
frame is decoded at a time.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

MAX_PIXELS: Final = 64_000_000
"""8192 x 7812 in one frame: more than any detector has."""
MAX_FRAMES: Final = 9_999
MAX_SIDE: Final = 2_048
"""Of the PNG; what is larger is made smaller, and the answer says so."""

WINDOWS: Final[dict[str, tuple[float, float]]] = {
    "soft": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (500.0, 2000.0),
    "brain": (40.0, 80.0),
}
"""Centre and width in Hounsfield units: they mean something for CT only."""
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_META_BYTES: Final = 4_096
"""Where a file says its transfer syntax (PS3.10 7.1)."""
OWN, FULL = "", "full"
"""As the file says; from the darkest to the brightest."""


class Undrawable(Exception):
    """The file cannot be shown; the text is a stable word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A drawn frame.

    Args:
        rows, columns: of the original.
        window: its name: empty for the file's own, ``full``, or one of ``WINDOWS``.
        centre, width: of the grey window in the file's units; None for colour and look-up tables.
        windows: names that may be asked for.
        spacing_mm: what a pixel measures, down and across; None where the file does not say.
        at_detector: the spacing is that of the detector, not of the patient (projection radiography).
        smaller: the PNG has fewer pixels than the original.
    """

    png: bytes
    rows: int
    columns: int
    frames: int
    modality: str
    window: str
    centre: float | None
    width: float | None
    windows: tuple[str, ...]
    spacing_mm: tuple[float, float] | None
    at_detector: bool
    smaller: bool
    lossy: bool
    laterality: str
    instance: str = ""
    """SOP instance UID of the file, empty when it has none."""
    patient_ids: tuple[str, ...] = ()
    """Whom the file names."""

    def describe(self) -> dict[str, Any]:
        """For a page."""
        names = (
            "rows", "columns", "frames", "modality", "window", "centre", "width", "at_detector", "smaller", "lossy",
            "laterality",
        )  # fmt: skip
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        return told | {"windows": list(self.windows), "spacing_mm": self.spacing_mm and list(self.spacing_mm)}


def draw(data: bytes, frame: int, window: str = OWN) -> Picture:
    """Draw one frame.

    Args:
        data: DICOM file format.
        frame: from 0.
        window: a name of ``Picture.windows``; another one is read as the file's own.

    Raises:
        Undrawable: ``unreadable``, ``no_pixels``, ``too_large``, ``no_such_frame`` or ``compression``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _read(data)
        rows, columns, frames = _size(found)
        if not 0 <= frame < frames:
            raise Undrawable("no_such_frame")
        try:
            pixels = pixel_array(found, index=frame)
        except (NotImplementedError, RuntimeError):
            raise Undrawable("compression") from None
        except Exception:  # whatever a decoder meets in a stranger's bytes
            raise Undrawable("unreadable") from None
        try:
            return _picture(found, pixels, (rows, columns, frames), window)
        except Undrawable:
            raise
        except Exception:  # likewise for tables and numbers that make no sense
            raise Undrawable("unreadable") from None


def _read(data: bytes) -> Dataset:
    if _DEFLATED in data[:_META_BYTES]:
        # All of it would be inflated before anything of it is known: a small file may be any size then.
        raise Undrawable("compression")
    try:
        return pydicom.dcmread(io.BytesIO(data))
    except Exception:
        raise Undrawable("unreadable") from None


def _patient_ids(found: Dataset) -> tuple[str, ...]:
    others = [one.get("PatientID") for one in found.get("OtherPatientIDsSequence") or ()]
    named = [found.get("PatientID"), *others]
    return tuple(text for one in named if (text := str(one or "").strip()))


def _size(found: Dataset) -> tuple[int, int, int]:
    if "PixelData" not in found:
        raise Undrawable("no_pixels")
    try:
        rows, columns = int(found.Rows), int(found.Columns)
        frames, samples = int(found.get("NumberOfFrames") or 1), int(found.get("SamplesPerPixel") or 1)
    except (AttributeError, TypeError, ValueError):
        raise Undrawable("unreadable") from None
    if min(rows, columns, frames) < 1 or samples not in (1, 3):
        raise Undrawable("unreadable")
    if rows * columns * samples > MAX_PIXELS or frames > MAX_FRAMES:
        raise Undrawable("too_large")
    return rows, columns, frames


def _picture(found: Dataset, pixels: Any, size: tuple[int, int, int], window: str) -> Picture:
    rows, columns, frames = size
    modality = str(found.get("Modality") or "OT")[:16]
    photometric = str(found.get("PhotometricInterpretation") or "")
    grey = pixels.ndim == 2 and not photometric.startswith("PALETTE")
    if grey:
        windows = (OWN, FULL, *(WINDOWS if modality == "CT" else ()))
        chosen = window if window in windows else OWN
        values, centre, width = _grey(found, pixels, chosen)
        if photometric == "MONOCHROME1":
            values = 255 - values
    else:
        windows, chosen, centre, width = (OWN,), OWN, None, None
        values = _colour(found, pixels, photometric)
    image = Image.fromarray(numpy.ascontiguousarray(values))
    smaller = max(image.size) > MAX_SIDE
    if smaller:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    output = io.BytesIO()
    image.save(output, "PNG", compress_level=3)
    spacing, at_detector = _spacing(found)
    return Picture(
        png=output.getvalue(), rows=rows, columns=columns, frames=frames, modality=modality, window=chosen,
        centre=centre, width=width, windows=windows, spacing_mm=spacing, at_detector=at_detector, smaller=smaller,
        lossy=str(found.get("LossyImageCompression") or "") == "01",
        laterality=str(found.get("ImageLaterality") or found.get("Laterality") or "")[:2],
        instance=str(found.get("SOPInstanceUID") or ""), patient_ids=_patient_ids(found),
    )  # fmt: skip


def _grey(found: Dataset, pixels: Any, window: str) -> tuple[Any, float | None, float | None]:
    """Eight bits of grey, and the window that made them (PS3.3 C.11.2.1)."""
    values = apply_modality_lut(pixels, found).astype(numpy.float64)
    if window in WINDOWS:
        return _windowed(values, *WINDOWS[window]), *WINDOWS[window]
    if window == OWN:
        own = _own_window(found)
        if own is not None:
            return _windowed(values, *own), *own
        if found.get("VOILUTSequence"):
            shown = apply_voi_lut(apply_modality_lut(pixels, found), found, prefer_lut=True).astype(numpy.float64)
            return _stretched(shown), None, None
    low, high = float(values.min()), float(values.max())
    return _stretched(values), (low + high) / 2, high - low


def _own_window(found: Dataset) -> tuple[float, float] | None:
    """The first window of the file, if it is a linear one that makes sense."""
    if str(found.get("VOILUTFunction") or "LINEAR") not in ("LINEAR", "LINEAR_EXACT"):
        return None
    centre, width = _first(found.get("WindowCenter")), _first(found.get("WindowWidth"))
    return None if centre is None or width is None or width < 1 else (centre, width)


def _first(value: Any) -> float | None:
    try:
        number = float(value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if numpy.isfinite(number) else None


def _windowed(values: Any, centre: float, width: float) -> Any:
    low = centre - 0.5 - (width - 1) / 2
    scaled = (values - low) / max(width - 1, 1e-9) * 255
    return numpy.clip(numpy.rint(scaled), 0, 255).astype(numpy.uint8)


def _stretched(values: Any) -> Any:
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low else 0.0
    return numpy.rint((values - low) * scale).astype(numpy.uint8)


def _colour(found: Dataset, pixels: Any, photometric: str) -> Any:
    if photometric.startswith("PALETTE"):
        pixels = apply_color_lut(pixels, found)
        return (pixels >> 8).astype(numpy.uint8) if pixels.dtype.itemsize > 1 else pixels
    if pixels.dtype != numpy.uint8:
        raise Undrawable("unreadable")
    return pixels  # `pixel_array` gives RGB, whatever the file keeps


def _spacing(found: Dataset) -> tuple[tuple[float, float] | None, bool]:
    """What a pixel measures, and whether that is at the detector (PS3.3 10.7.1.1: then it is no length of the body)."""
    for name, at_detector in (("PixelSpacing", False), ("ImagerPixelSpacing", True)):
        given = found.get(name)
        if given is not None and len(given) == 2:
            down, across = _first(given[0]), _first(given[1])
            if down is not None and across is not None and down > 0 and across > 0:
                return (down, across), at_detector
    return None, False
