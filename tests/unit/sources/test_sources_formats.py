"""DICOM, EDF+, FHIR, aECG, HL7 v2 and SCP-ECG files: exact values, traps of real files, and typed errors."""

from __future__ import annotations

import contextlib
import copy
import datetime
import importlib.util
import io
import json
import struct
from typing import Any

import edfio
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from media.core.waveform import InvalidReason
from media.sources import NoticeCode, Recording, SourceError, SourceErrorCode, read
from media.sources.scp import is_scp
from tests.shared_data import shared

STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RNG = np.random.default_rng(11)
BEAT = np.round(300 * np.exp(-0.5 * ((np.arange(1000) % 400 - 200) / 8) ** 2) + RNG.normal(0, 2, 1000)).astype(np.int16)


def refused(data: bytes) -> SourceErrorCode:
    with pytest.raises(SourceError) as raised:
        read(data)
    assert raised.value.en
    assert raised.value.zh
    return raised.value.code


def codes(recording: Recording) -> set[NoticeCode]:
    return {notice.code for notice in recording.notices}


class TestDicom:
    @staticmethod
    def sample() -> pydicom.Dataset:
        return pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm", download=False)))

    @staticmethod
    def written(dataset: pydicom.Dataset) -> bytes:
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()

    def test_the_rhythm_is_pydicoms_exactly_and_the_median_beat_is_not_taken(self) -> None:
        """All 120,000 samples. The file's second group is a MEDIAN BEAT, which others drew by mistake."""
        dataset = self.sample()
        recording = read(self.written(dataset))
        (strip,) = recording.strips
        assert strip.names == STANDARD
        np.testing.assert_array_equal(strip.samples * (strip.lsb_nv / 1000), dataset.waveform_array(0).T)
        assert NoticeCode.LEFT_OUT in codes(recording)
        assert recording.filter == "0.05-300 Hz, no notch"
        assert recording.patient.ids == (str(dataset.PatientID),)

    def test_a_maker_that_is_the_model_too_is_named_once(self) -> None:
        dataset = self.sample()
        dataset.Manufacturer = dataset.ManufacturerModelName = "Simulated heart"
        assert read(self.written(dataset)).device == "Simulated heart"
        dataset.ManufacturerModelName = "M2"
        assert read(self.written(dataset)).device == "Simulated heart M2"

    def test_a_file_with_derived_beats_only_is_refused(self) -> None:
        dataset = self.sample()
        dataset.WaveformSequence = pydicom.Sequence([dataset.WaveformSequence[1]])
        assert refused(self.written(dataset)) is SourceErrorCode.NO_RHYTHM

    def test_padding_is_missing_and_the_rails_are_saturation(self) -> None:
        """[W6]"""
        dataset = self.sample()
        group = dataset.WaveformSequence[0]
        values = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).copy()
        values[100:110, 0] = -30_000
        values[500:505, 1] = 32_767
        values[700, 1] = 32_767
        group.WaveformData = values.tobytes()
        group.add_new("WaveformPaddingValue", "OW", struct.pack("<h", -30_000))
        strip = read(self.written(dataset)).strips[0]
        assert np.flatnonzero(strip.invalid[0] == InvalidReason.MISSING).tolist() == list(range(100, 110))
        assert np.flatnonzero(strip.invalid[1] == InvalidReason.SATURATED).tolist() == list(range(500, 505))

    def test_leads_of_other_scales_come_to_one(self) -> None:
        dataset = self.sample()
        for channel in dataset.WaveformSequence[0].ChannelDefinitionSequence[6:]:
            channel.ChannelSensitivity = 2.5
        recording = read(self.written(dataset))
        (strip,) = recording.strips
        np.testing.assert_array_equal(strip.samples * (strip.lsb_nv / 1000), dataset.waveform_array(0).T)

    @pytest.mark.parametrize("missing", ["ChannelSensitivity", "ChannelSensitivityUnitsSequence"])
    def test_a_lead_without_a_scale_is_refused(self, missing: str) -> None:
        dataset = self.sample()
        delattr(dataset.WaveformSequence[0].ChannelDefinitionSequence[3], missing)
        assert refused(self.written(dataset)) is SourceErrorCode.SCALE_UNKNOWN

    def test_a_stated_size_that_is_not_there_is_refused(self) -> None:
        dataset = self.sample()
        dataset.WaveformSequence[0].NumberOfWaveformSamples = 10_001
        assert refused(self.written(dataset)) is SourceErrorCode.TRUNCATED
        dataset.WaveformSequence[0].NumberOfWaveformSamples = 2**31
        assert refused(self.written(dataset)) is SourceErrorCode.TOO_LARGE

    def test_a_compressed_bomb_is_refused_before_it_is_unpacked(self) -> None:
        dataset = self.sample()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        assert refused(self.written(dataset)) is SourceErrorCode.UNSUPPORTED

    def test_a_picture_is_no_ecg(self) -> None:
        with open(str(get_testdata_file("MR_small.dcm", download=False)), "rb") as file:  # noqa: PTH123
            assert refused(file.read()) is SourceErrorCode.NO_ECG


class TestEdf:
    @staticmethod
    def made(*signals: edfio.EdfSignal, **more: Any) -> bytes:
        edf = edfio.Edf(list(signals), **more)
        buffer = io.BytesIO()
        edf.write(buffer)
        return buffer.getvalue()

    @staticmethod
    def signal(label: str, digital: np.ndarray = BEAT, **more: Any) -> edfio.EdfSignal:
        given = {
            "physical_dimension": "uV", "physical_range": (-32768 * 5, 32767 * 5), "digital_range": (-32768, 32767),
        } | more  # fmt: skip
        return edfio.EdfSignal.from_digital(digital, 500, label=label, **given)

    def test_the_integers_of_the_file_come_through(self) -> None:
        data = self.made(
            self.signal("ECG II", prefiltering="HP:0.05Hz LP:150Hz"),
            self.signal("ECG AVR", -BEAT),
            patient=edfio.Patient(code="P-7", sex="F", birthdate=datetime.date(1961, 2, 3), name="Wang_Li"),
            recording=edfio.Recording(startdate=datetime.date(2026, 1, 2)),
            starttime=datetime.time(3, 4, 5),
            annotations=[edfio.EdfAnnotation(0.5, None, "syncope")],
        )
        recording = read(data)
        (strip,) = recording.strips
        assert strip.names == ("II", "aVR")
        np.testing.assert_array_equal(strip.samples, [BEAT, -BEAT])
        assert strip.lsb_nv == 5000
        assert recording.patient.ids == ("P-7",)
        assert (recording.patient.name, recording.patient.birth_date, recording.patient.sex) == (
            "Wang Li", "1961-02-03", "F",
        )  # fmt: skip
        assert recording.start_us == 1_767_323_045_000_000
        assert [(a.sample, a.text) for a in recording.annotations] == [(250, "syncope")]
        assert recording.filter == "HP:0.05Hz LP:150Hz"

    def test_a_wrong_scale_and_a_zero_lead_off_are_told_and_marked(self) -> None:
        """The trap: 30.5 uV stated for 5 uV data, and lead-off as 0. [W6]"""
        wide = {"physical_range": (-32768 * 30.5, 32767 * 30.5)}
        recording = read(self.made(self.signal("I", **wide), self.signal("V1", np.zeros(1000, np.int16), **wide)))
        assert {NoticeCode.LIMB_AMPLITUDE, NoticeCode.FLAT} <= codes(recording)
        assert (recording.strips[0].invalid[1] == InvalidReason.LEAD_OFF).all()

    def test_other_channels_are_left_out_and_said(self) -> None:
        recording = read(
            self.made(self.signal("II"), self.signal("Resp", physical_dimension="mV"), self.signal("EEG Fpz-Cz"))
        )
        assert recording.strips[0].names == ("II",)
        assert codes(recording) >= {NoticeCode.LEFT_OUT}

    def test_one_record_for_each_sample_is_read(self) -> None:
        """Also a trap of a real file."""
        data = self.made(self.signal("II", BEAT[:200]), data_record_duration=1 / 500)
        np.testing.assert_array_equal(read(data).strips[0].samples[0], BEAT[:200])

    def test_a_discontinuous_file_keeps_its_gap(self) -> None:
        """[W2] EDF+D: what lies between two data records is a hole, not a jump."""
        whole = self.made(self.signal("II"), annotations=[edfio.EdfAnnotation(0.1, None, "x")], data_record_duration=1)
        broken = whole.replace(b"EDF+C", b"EDF+D", 1).replace(b"+1\x14\x14", b"+3\x14\x14")
        assert broken != whole
        strip = read(broken).strips[0]
        assert strip.samples.shape == (1, 2000)
        np.testing.assert_array_equal(strip.samples[0, :500], BEAT[:500])
        np.testing.assert_array_equal(strip.samples[0, 1500:], BEAT[500:])
        assert (strip.invalid[0, 500:1500] == InvalidReason.MISSING).all()
        assert [b.skipped for b in strip.blocks(500)] == [0, 1000]

    def test_cut_short_it_is_refused(self) -> None:
        data = self.made(self.signal("II"))
        for length in (200, 300, 600, len(data) - 1):
            assert refused(data[:length]) in (SourceErrorCode.TRUNCATED, SourceErrorCode.UNKNOWN_FORMAT)

    def test_claims_of_gigabytes_cost_nothing(self) -> None:
        data = bytearray(self.made(self.signal("II")))
        data[236:244] = b"99999999"
        assert refused(bytes(data)) is SourceErrorCode.TRUNCATED


class TestFhir:
    @staticmethod
    def observation(data: str = "1 2 3 4 5 6 7 8", **sampled: Any) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "subject": {"reference": "Patient/p-9"},
            "effectiveDateTime": "2026-01-01T00:00:00.250Z",
            "component": [
                {
                    "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "131330"}]},
                    "valueSampledData": {
                        "origin": {"value": 0, "code": "uV"}, "period": 2.0, "factor": 1.25, "dimensions": 1,
                        "data": data,
                    } | sampled,
                }
            ],
        }  # fmt: skip

    @staticmethod
    def bytes_of(resource: object) -> bytes:
        return json.dumps(resource).encode()

    def test_a_real_strip_with_a_gap_has_missing_samples_where_the_tokens_are(self) -> None:
        """[W2] 12 leads, 160 tokens E each; the others are the DICOM file's values."""
        whole = read(shared("fhir/ecg_12lead_2s_500hz.json").read_bytes()).strips[0]
        gapped = read(shared("fhir/ecg_12lead_2s_500hz_gap_E.json").read_bytes()).strips[0]
        assert whole.names == gapped.names == STANDARD
        assert (whole.rate, whole.lsb_nv) == (500, 1250)
        missing = gapped.invalid == InvalidReason.MISSING
        assert missing.sum(axis=1).tolist() == [160] * 12
        np.testing.assert_array_equal(gapped.samples[~missing], whole.samples[~missing])
        assert sum(b.skipped for b in gapped.blocks(50)) == 160

    def test_tokens_are_missing_and_saturated(self) -> None:
        """[W6]"""
        strip = read(self.bytes_of(self.observation("1 E U 4 L 6"))).strips[0]
        assert strip.names == ("II",)
        assert strip.invalid[0].tolist() == [0, 1, 3, 0, 3, 0]

    def test_decimals_are_exact(self) -> None:
        strip = read(self.bytes_of(self.observation("0.1 0.2 0.3 -0.4", factor=10))).strips[0]
        assert (strip.samples[0].astype(int) * strip.lsb_nv).tolist() == [1000, 2000, 3000, -4000]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"period": 0}, SourceErrorCode.RATE),
            ({"dimensions": 2}, SourceErrorCode.UNSUPPORTED),
            ({"origin": {"value": 0}}, SourceErrorCode.SCALE_UNKNOWN),
            ({"data": ""}, SourceErrorCode.TRUNCATED),
            ({"data": "1 x 3"}, SourceErrorCode.MALFORMED),
            ({"factor": "1e999999999"}, SourceErrorCode.MALFORMED),
            ({"data": "0.0000001 2"}, SourceErrorCode.SCALE_LOSSY),
        ],
    )
    def test_what_is_wrong_is_one_typed_error(self, change: dict[str, Any], code: SourceErrorCode) -> None:
        assert refused(self.bytes_of(self.observation(**change))) is code

    def test_deep_nesting_is_refused(self) -> None:
        assert refused(b'{"resourceType":' + b"[" * 100_000) is SourceErrorCode.MALFORMED


AECG = """<?xml version="1.0" encoding="UTF-8"?>
<AnnotatedECG xmlns="urn:hl7-org:v3">
 <componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>
  <id root="1.2.3" extension="SUBJ-4"/><subjectDemographicPerson><administrativeGenderCode code="F"/>
  <birthTime value="19530508"/></subjectDemographicPerson></trialSubject></subject></subjectAssignment></componentOf>
 </timepointEvent></componentOf>
 <component><series><code code="{series}" codeSystem="2.16.840.1.113883.5.4"/>
  <effectiveTime><low value="20260102030405.5+0800"/></effectiveTime>
  <component><sequenceSet>
   <component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"
     xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
     <head value="20260102030405.5+0800"/><increment value="0.002" unit="s"/></value></sequence></component>
   {sequences}
  </sequenceSet></component></series></component>
</AnnotatedECG>"""
SEQUENCE = """<component><sequence><code code="{code}"/><value><origin value="0" unit="uV"/>
 <scale value="{scale}" unit="{unit}"/><digits>{digits}</digits></value></sequence></component>"""


class TestAecg:
    @staticmethod
    def made(series: str = "RHYTHM", scale: str = "2.5", unit: str = "uV", digits: str = "") -> bytes:
        sequences = "".join(
            SEQUENCE.format(code=f"MDC_ECG_LEAD_{n}", scale=scale, unit=unit, digits=digits or values)
            for n, values in (("II", " ".join(map(str, BEAT))), ("AVR", " ".join(map(str, -BEAT))))
        )
        return AECG.format(series=series, sequences=sequences).encode()

    def test_the_rhythm_series_comes_through(self) -> None:
        recording = read(self.made())
        (strip,) = recording.strips
        assert strip.names == ("II", "aVR")
        assert (strip.rate, strip.lsb_nv) == (500, 2500)
        np.testing.assert_array_equal(strip.samples, [BEAT, -BEAT])
        assert recording.start_us == 1_767_294_245_500_000, "the zone of the file is used"
        assert recording.patient.ids == ("SUBJ-4",)

    @pytest.mark.parametrize(
        "hostile",
        [
            b'<!DOCTYPE a [<!ENTITY b "x">]>', b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
            b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]>',
        ],
    )  # fmt: skip
    def test_document_types_and_entities_are_refused(self, hostile: bytes) -> None:
        data = self.made()
        at = data.index(b"<AnnotatedECG")
        assert refused(data[:at] + hostile + data[at:]) is SourceErrorCode.UNSAFE

    def test_derived_series_unknown_units_and_nonsense_are_refused(self) -> None:
        assert refused(self.made(series="REPRESENTATIVE_BEAT")) is SourceErrorCode.NO_RHYTHM
        assert refused(self.made(unit="furlong")) is SourceErrorCode.SCALE_UNKNOWN
        assert refused(self.made(digits="1 2 99999999999999")) is SourceErrorCode.MALFORMED
        assert refused(self.made(digits=" ")) is SourceErrorCode.TRUNCATED
        assert refused(self.made()[:400]) is SourceErrorCode.MALFORMED
        deep = b"<AnnotatedECG>" + b"<a>" * 1000
        assert refused(deep) is SourceErrorCode.TOO_LARGE


ORU = (
    "MSH|^~\\&|GATEWAY^0012^EUI-64|W|||20260102030410+0800||ORU^R01^ORU_R01|1|P|2.6\r"
    "PID|||MRN-12^^^H^MR~C99^^^H^PI||Li^Hua||19530508|F\r"
    "OBR|1|||69121^MDC_OBS_WAVE^MDC|||20260102030405+0800|20260102030407+0800\r"
    "OBX|1|NA|131330^MDC_ECG_ELEC_POTL_II^MDC|1.1.1.1|{two}|262419^MDC_DIM_MICRO_VOLT^MDC|||||R\r"
    "OBX|2|NM|0^MDC_ATTR_SAMP_RATE^MDC|1.1.1.1.1|500|264608^MDC_DIM_PER_SEC^MDC|||||R\r"
    "OBX|3|NM|0^MDC_ATTR_NU_MSMT_RES^MDC|1.1.1.1.2|2.5|262419^MDC_DIM_MICRO_VOLT^MDC|||||R\r"
    "OBR|2|||182777000^monitoring of patient^SCT|||20260102030406+0800\r"
    "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.2.1|78|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20260102030406+0800\r"
    "OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.2.2||262688^MDC_DIM_PERCENT^MDC||INV|||X|||20260102030406+0800\r"
    "OBX|3|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.2.3|131|266016^MDC_DIM_MMHG^MDC|||||R|||20260102025900+0800\r"
    "OBX|4|NM|150022^MDC_PRESS_BLD_NONINV_DIA^MDC|1.1.2.4|79|266016^MDC_DIM_MMHG^MDC|||||R|||20260102025900+0800\r"
    "OBX|5|NM|150023^MDC_PRESS_BLD_NONINV_MEAN^MDC|1.1.2.5|97|266016^MDC_DIM_MMHG^MDC|||||R|||20260102025900+0800\r"
    "OBX|6|NM|151562^MDC_RESP_RATE^MDC|1.1.2.6|17|furlong|||||R|||20260102030406+0800\r"
)


class TestHl7v2:
    @staticmethod
    def made(two: str = "", ending: str = "\r", bom: bool = False) -> bytes:
        values = two or "^".join("" if 40 <= i < 60 else str(v) for i, v in enumerate(BEAT))
        return (b"\xef\xbb\xbf" if bom else b"") + ORU.format(two=values).replace("\r", ending).encode()

    @pytest.mark.parametrize(("ending", "bom"), [("\r", False), ("\n", True), ("\r\n", False)])
    def test_waveform_and_vital_signs_with_any_line_ending(self, ending: str, bom: bool) -> None:
        """[W8] Each number with its own time; one that is not there says so; an unknown unit is no number."""
        recording = read(self.made(ending=ending, bom=bom))
        (strip,) = recording.strips
        assert (strip.names, strip.rate, strip.lsb_nv) == (("II",), 500, 2500)
        np.testing.assert_array_equal(strip.samples[0, 60:], BEAT[60:])
        assert np.flatnonzero(strip.invalid[0]).tolist() == list(range(40, 60))
        assert recording.start_us == 1_767_294_245_000_000
        assert recording.patient.ids == ("MRN-12", "C99")
        found = {v.code: (v.value, v.quality, v.at_us) for v in recording.vitals}
        assert found == {
            "HR": (78.0, "ok", 1_767_294_246_000_000),
            "SpO2": (None, "invalid", 1_767_294_246_000_000),
            "NIBP": ((131.0, 79.0, 97.0), "ok", 1_767_293_940_000_000),
        }
        assert NoticeCode.LEFT_OUT in codes(recording)

    def test_without_a_stated_rate_it_follows_from_the_times(self) -> None:
        data = self.made().replace(b"MDC_ATTR_SAMP_RATE", b"MDC_ATTR_OTHER")
        assert read(data).strips[0].rate == 500

    def test_real_laboratory_and_admission_messages_are_no_ecg(self) -> None:
        for path in sorted(shared("hl7v2").glob("*.hl7")):
            assert refused(path.read_bytes()) is SourceErrorCode.NO_ECG

    @pytest.mark.parametrize("two", ["1^x", "1e99999999999", "0.00000001^2", "^".join(["9" * 30] * 3)])
    def test_values_that_are_none_are_refused(self, two: str) -> None:
        assert refused(self.made(two)) in (SourceErrorCode.MALFORMED, SourceErrorCode.SCALE_LOSSY)


def scp_file(leads: tuple[tuple[int, np.ndarray], ...]) -> bytes:
    """A minimal uncompressed SCP-ECG record: sections 0, 1, 3 and 6, 500 Hz, 2.5 uV."""
    import binascii

    def section(number: int, body: bytes) -> bytes:
        body += b"\0" * (len(body) % 2)
        head = struct.pack("<HIBB6s", number, 16 + len(body), 13, 13, b"SCPECG" if number == 0 else bytes(6))
        rest = head + body
        return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest

    tags = b"".join(
        struct.pack("<BH", tag, len(v)) + v
        for tag, v in (
            (2, b"PID-5\0"), (14, b"\0" * 36), (25, struct.pack("<HBB", 2026, 1, 2)), (26, bytes((3, 4, 5))),
            (255, b""),
        )
    )  # fmt: skip
    count = len(leads[0][1])
    third = struct.pack("<BB", len(leads), 4 | len(leads) << 3)
    third += b"".join(struct.pack("<IIB", 1, count, code) for code, _ in leads)
    sixth = struct.pack("<HHBB", 2500, 2000, 0, 0) + b"".join(struct.pack("<H", 2 * count) for _ in leads)
    sixth += b"".join(values.astype("<i2").tobytes() for _, values in leads)
    bodies = {1: tags, 3: third, 6: sixth}
    sections = {number: section(number, body) for number, body in bodies.items()}
    at = 6 + 16 + 10 * 12
    pointers = b""
    for number in range(12):
        size = 16 + 120 if number == 0 else len(sections.get(number, b""))
        where = 7 if number == 0 else (at + 1 if size else 0)
        pointers += struct.pack("<HII", number, size, where)
        at += size if number else 0
    record = section(0, pointers) + b"".join(sections[n] for n in sorted(sections))
    record = struct.pack("<I", len(record) + 6) + record
    return struct.pack("<H", binascii.crc_hqx(record, 0xFFFF)) + record


class TestScp:
    FILE = scp_file(((1, BEAT), (2, 2 * BEAT), (61, BEAT)))

    def test_it_is_recognised(self) -> None:
        assert is_scp(self.FILE)

    @pytest.mark.skipif(importlib.util.find_spec("ecgdatakit") is not None, reason="the optional part is installed")
    def test_without_the_optional_part_that_is_said_in_words(self) -> None:
        assert refused(self.FILE) is SourceErrorCode.NOT_INSTALLED

    @pytest.mark.skipif(
        importlib.util.find_spec("ecgdatakit") is None, reason="needs the optional part: consilium[scp]"
    )
    def test_with_it_the_files_integers_come_through(self) -> None:
        (strip,) = read(self.FILE).strips
        assert (strip.names, strip.rate, strip.lsb_nv) == (("I", "II", "III"), 500, 2500)
        np.testing.assert_array_equal(strip.samples, [BEAT, 2 * BEAT, BEAT])


SEEDS = [
    TestEdf.made(TestEdf.signal("II", BEAT[:500])),
    TestFhir.bytes_of(TestFhir.observation()),
    TestAecg.made(),
    TestHl7v2.made(),
    TestDicom.written(TestDicom.sample())[:9000],
    TestScp.FILE,
]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=6),
    st.floats(0, 1),
)
def test_whatever_the_bytes_there_is_a_record_or_one_typed_error(
    seed: bytes, cuts: list[tuple[float, bytes]], end: float
) -> None:
    data = bytearray(copy.copy(seed))
    for where, patch in cuts:
        at = int(where * len(data))
        data[at : at + len(patch)] = patch
    if end < 0.3:
        del data[int(end / 0.3 * len(data)) :]
    with contextlib.suppress(SourceError):
        for strip in read(bytes(data)).strips:
            assert strip.samples.shape == strip.invalid.shape
            assert 1 <= strip.lsb_nv <= 65_535
            assert all(1 <= len(name) <= 8 for name in strip.names)


@given(st.binary(max_size=400))
def test_random_bytes_are_no_ecg(data: bytes) -> None:
    with pytest.raises(SourceError):
        read(data)
