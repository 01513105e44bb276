"""Sample DICOM objects, computed at seed time: a phantom's CT and radiograph, a simulated heart's ECG.

They are nobody's, and say so in their pixels and attributes. The geometry is invented; its numbers agree
with each other.
"""

import hashlib
import io
from datetime import datetime
from typing import Any

import numpy
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from media.sources.simulator import Rhythm
from media.sources.simulator.monitor import Settings, Simulator
from server.demo import fonts
from server.waveforms.core.dicom import build_dicom
from server.waveforms.core.identity import ExportIdentity
from server.waveforms.core.stream import StreamInfo
from server.waveforms.core.timeline import Run
from signaling.core.model import PatientBanner

CT_SLICES = 10
_CT, _CT_MM = 160, 2.4
_XRAY, _XRAY_MM = 288, 1.4
_ECG_S = 10
_MARK = "SYNTHETIC PHANTOM"


def uid(*key: object) -> str:
    """A UID of our own, the same at every seed (PS3.5 B.2: a UUID as an integer)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def ct_slice(banner: PatientBanner, key: str, number: int, taken: datetime) -> bytes:
    """One slice of a chest phantom, from 0 at the apex."""
    pixels = _chest(number / (CT_SLICES - 1))
    made = _object(banner, key, number, taken, CTImageStorage, "CT", "Chest CT phantom 胸部CT模体")
    made.SeriesDescription = "Axial 10 mm"
    made.PixelSpacing, made.SliceThickness = [_CT_MM, _CT_MM], 10
    made.ImagePositionPatient = [-_CT * _CT_MM / 2, -_CT * _CT_MM / 2, -10.0 * number]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, -1024, "HU"
    made.WindowCenter, made.WindowWidth = [40, -600], [400, 1500]
    return _stored(made, _marked(pixels + 1024, 2400))


def radiograph(banner: PatientBanner, key: str, number: int, taken: datetime) -> bytes:
    """The phantom in front of a detector: 0 is the frontal view, 1 the side view."""
    volume = numpy.stack([_chest(step / 35) for step in range(36)])
    absorbed = (volume + 1024).clip(0).sum(axis=1 if number == 0 else 2)
    image = Image.fromarray(absorbed.astype("f4")).resize((_XRAY, _XRAY), Image.Resampling.BICUBIC)
    values = numpy.asarray(image)
    pixels = (values - values.min()) / (values.max() - values.min()) * 3600 + 200
    made = _object(
        banner, key, number, taken, DigitalXRayImageStorageForPresentation, "DX", "Chest, two views 胸部正侧位"
    )
    made.SeriesDescription = "PA" if number == 0 else "LATERAL"
    made.ImagerPixelSpacing = [_XRAY_MM, _XRAY_MM]
    made.WindowCenter, made.WindowWidth = 2000, 3800
    return _stored(made, _marked(pixels, 4000))


def ecg(banner: PatientBanner, key: str, taken: datetime, *, seed: int) -> bytes:
    """Ten seconds of twelve leads of a simulated heart."""
    simulator = Simulator(Settings(rhythm=Rhythm.SINUS, seed=seed))
    form = simulator.format
    block = simulator.block(_ECG_S * form.sample_rate_mhz // 1000)
    values = numpy.asarray(block.samples, numpy.int16)
    names = tuple(str(lead) for lead in form.leads)
    start_us = int(taken.timestamp() * 1e6)
    info = StreamInfo(
        archive=key, consult="", stream_id=1, kind="import", title="ECG", device="Simulated heart", leads=names,
        sample_rate_mhz=form.sample_rate_mhz, lsb_nv=form.lsb_nv, filter="", simulated=True, patient=banner.id,
    )  # fmt: skip
    run = Run(start_us, 0, 1, form.sample_rate_mhz, form.lsb_nv, values, numpy.ones_like(values, numpy.bool_))
    identity = ExportIdentity(banner=banner, institution="Sample hospital", made_at_us=start_us, software="consilium")
    return build_dicom(info, identity, [run])


def _chest(depth: float) -> Any:
    """Hounsfield units of a section, ``depth`` 0 at the apex of the lungs and 1 at the diaphragm."""
    y, x = numpy.mgrid[-1 : 1 : _CT * 1j, -1 : 1 : _CT * 1j]
    section = numpy.full((_CT, _CT), -1000.0)

    def oval(cx: float, cy: float, rx: float, ry: float, value: float) -> None:
        section[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = value

    width = 0.72 + 0.14 * depth
    oval(0, 0, width, 0.6, -95)
    oval(0, 0, width - 0.05, 0.55, 45)
    lung = 0.16 + 0.17 * min(1.0, depth * 2)
    for side in (-1, 1):
        oval(side * 0.4, -0.02, lung, lung * 1.45, -840)
        oval(side * 0.36, 0.12, 0.03, 0.03, -40)
    if depth > 0.3:
        oval(0.1, -0.12, 0.12 + 0.2 * (depth - 0.3), 0.12 + 0.16 * (depth - 0.3), 48)
    oval(-0.02, 0.3, 0.055, 0.055, 40)
    oval(0.06, 0.36, 0.1, 0.09, 260)
    oval(0.06, 0.42, 0.035, 0.035, 20)
    oval(0, -0.5, 0.09, 0.03, 320)
    for rib in range(8):
        angle = rib / 8 * 2 * numpy.pi + depth * 1.7
        oval((width - 0.08) * numpy.cos(angle), 0.5 * numpy.sin(angle), 0.035, 0.025, 420)
    noise = numpy.random.default_rng(int(depth * 1000)).normal(0, 9, section.shape)
    return section + numpy.where(section > -990, noise, 0)


def _marked(pixels: Any, white: float) -> Any:
    """The pixels with the words that say what they are."""
    words = Image.new("L", pixels.shape[::-1])
    ImageDraw.Draw(words).text((5, 4), _MARK, font=fonts.latin(11), fill=255)
    share = numpy.asarray(words) / 255.0
    return pixels * (1 - share) + white * share


def _object(
    banner: PatientBanner, key: str, number: int, taken: datetime, sop_class: str, modality: str, title: str
) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = UID(sop_class)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = UID(uid(key, number))
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(key), uid(key, "series")
    made.SpecificCharacterSet, made.Modality, made.StudyDescription = "ISO_IR 192", modality, title
    made.PatientID, made.PatientName = banner.identifiers[0].value, banner.name_latin.replace(" ", "^")
    made.PatientBirthDate, made.PatientSex = banner.birth_date.replace("-", ""), "F" if banner.sex == "female" else "M"
    made.StudyDate, made.StudyTime = taken.strftime("%Y%m%d"), taken.strftime("%H%M%S")
    made.InstanceNumber, made.Manufacturer, made.ImageType = number + 1, "Synthetic", ["DERIVED", "PRIMARY"]
    made.BurnedInAnnotation, made.PatientIdentityRemoved = "NO", "NO"
    return made


def _stored(made: Dataset, pixels: Any) -> bytes:
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = numpy.rint(pixels).clip(0, 4095).astype("<u2").tobytes()
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()
