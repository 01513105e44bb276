"""A frame of a DICOM image is drawn with the grey window it names; a stranger's file costs a word, not the server."""

import io
from typing import Any

import numpy
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from server.imaging.find import binary_id, lists_instance
from server.imaging.render import MAX_SIDE, WINDOWS, Undrawable, draw


def dicom(pixels: Any, **fields: Any) -> bytes:
    """A file with these pixels (frames, rows, columns) of 16 bits."""
    frames, rows, columns = pixels.shape
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, made.file_meta.MediaStorageSOPInstanceUID
    made.Modality, made.PhotometricInterpretation, made.SamplesPerPixel = "CT", "MONOCHROME2", 1
    made.Rows, made.Columns, made.NumberOfFrames = rows, columns, frames
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 1
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def greys(png: bytes) -> Any:
    return numpy.asarray(Image.open(io.BytesIO(png)))


RAMP = numpy.arange(-1000, 1048, 2, dtype="i2").reshape(1, 32, 32)


def test_the_file_s_own_window_is_used_and_named() -> None:
    drawn = draw(dicom(RAMP, WindowCenter=40, WindowWidth=400, PixelSpacing=[0.5, 0.7]), 0)
    assert (drawn.window, drawn.centre, drawn.width) == ("", 40.0, 400.0)
    values = greys(drawn.png)
    hounsfield = RAMP[0].astype(float)
    assert (values[hounsfield <= -160] == 0).all()
    assert (values[hounsfield >= 240] == 255).all()
    middle = values[(hounsfield > 30) & (hounsfield < 50)]
    assert ((middle > 115) & (middle < 140)).all()
    assert (drawn.spacing_mm, drawn.at_detector) == ((0.5, 0.7), False)
    assert (drawn.rows, drawn.columns, drawn.frames) == (32, 32, 1)


def test_a_named_window_counts_in_hounsfield_units_after_the_rescale() -> None:
    stored = (RAMP + 1024).astype("i2")
    drawn = draw(dicom(stored, RescaleSlope=1, RescaleIntercept=-1024), 0, "lung")
    centre, width = WINDOWS["lung"]
    assert (drawn.window, drawn.centre, drawn.width) == ("lung", centre, width)
    values, hounsfield = greys(drawn.png), RAMP[0].astype(float)
    assert (values[hounsfield > centre + width / 2 + 2] == 255).all()
    assert 120 <= int(values[numpy.abs(hounsfield - centre) <= 1].mean()) <= 135


def test_windows_in_hounsfield_units_are_not_offered_where_there_are_none() -> None:
    drawn = draw(dicom(RAMP, Modality="MR"), 0, "lung")
    assert drawn.window == ""
    assert set(drawn.windows) == {"", "full"}
    assert drawn.spacing_mm is None  # not said: nothing may be measured
    assert (drawn.centre, drawn.width) == (23.0, 2046.0)


def test_inverted_grey_is_drawn_inverted_and_the_detector_s_spacing_is_called_so() -> None:
    plain = greys(draw(dicom(RAMP, Modality="DX"), 0).png)
    drawn = draw(
        dicom(RAMP, Modality="DX", PhotometricInterpretation="MONOCHROME1", ImagerPixelSpacing=[0.14, 0.14]), 0
    )
    assert (greys(drawn.png) == 255 - plain).all()
    assert (drawn.spacing_mm, drawn.at_detector) == ((0.14, 0.14), True)


def test_frames_are_drawn_one_by_one() -> None:
    two = numpy.stack([numpy.full((8, 8), -1000), numpy.full((8, 8), 1000)])
    data = dicom(two, WindowCenter=0, WindowWidth=100)
    assert (greys(draw(data, 0).png).max(), greys(draw(data, 1).png).min()) == (0, 255)
    with pytest.raises(Undrawable, match="no_such_frame"):
        draw(data, 2)


def test_a_large_picture_is_made_smaller_and_says_so() -> None:
    drawn = draw(dicom(numpy.zeros((1, 40, MAX_SIDE + 8))), 0)
    assert drawn.smaller
    assert max(Image.open(io.BytesIO(drawn.png)).size) == MAX_SIDE
    assert drawn.columns == MAX_SIDE + 8


def test_what_announces_more_than_it_may_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Undrawable, match="too_large"):
        draw(dicom(RAMP, Rows=60_000, Columns=60_000), 0)
    with pytest.raises(Undrawable, match=r"no_pixels|unreadable"):
        draw(b"DICM", 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2600), st.binary(min_size=1, max_size=40), st.integers(0, 3))
def test_damaged_files_are_drawn_or_refused(at: int, put: bytes, frame: int) -> None:
    data = dicom(RAMP)
    damaged = data[:at] + put + data[at + len(put) :]
    try:
        word = draw(damaged, frame).png[1:4].decode()
    except Undrawable as refused:
        word = str(refused)
    assert word in {"PNG", "unreadable", "no_pixels", "too_large", "no_such_frame", "compression"}


def test_an_instance_is_shown_only_by_a_study_that_names_it() -> None:
    study = {"series": [{"uid": "1.2", "instance": [{"uid": "1.2.3"}]}, {"uid": "1.4"}]}
    assert lists_instance(study, "1.2.3")
    assert not lists_instance(study, "1.2")
    assert not lists_instance({}, "1.2.3")
    assert len(binary_id("9" * 64)) <= 64


def test_a_deflated_file_is_not_inflated() -> None:
    """What is a kilobyte on the wire may be a gigabyte in memory, before anything of it is known."""
    made = pydicom.dcmread(io.BytesIO(dicom(numpy.zeros((1, 512, 512), "i2"))))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    assert len(out.getvalue()) < 4_096
    with pytest.raises(Undrawable, match="compression"):
        draw(out.getvalue(), 0)


def test_a_picture_says_which_instance_it_is_and_whom_the_file_names() -> None:
    other = Dataset()
    other.PatientID = "B 2"
    drawn = draw(dicom(RAMP, PatientID="A1 ", OtherPatientIDsSequence=[other]), 0)
    assert drawn.patient_ids == ("A1", "B 2")
    assert drawn.instance
    assert not {"instance", "patient_ids"} & drawn.describe().keys()
