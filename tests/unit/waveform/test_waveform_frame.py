"""Frames: what goes in comes out, what is not a frame is refused, and the golden vectors are what the code makes."""

import base64
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from media.core.waveform import (
    Flag,
    FrameWriter,
    InvalidRun,
    MalformedFrame,
    StreamFormat,
    UnsupportedFrame,
    build_frame,
    build_message,
    parse_frame,
    peek_stream_id,
    split_message,
    with_flags,
)
from media.core.waveform.frame import MAX_PACKET_BYTES

# The generator is a script beside its vectors, loaded by path: `tests` need not be importable as a package.
_SPEC = importlib.util.spec_from_file_location(
    "waveform_vectors", Path(__file__).parents[2] / "vectors" / "waveform" / "generate.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)

FIELDS = {
    "stream_id": 0x01020304, "seq": 9, "context_version": 5, "t0_us": 1_763_712_000_123_456,
    "first_sample": 77, "sample_rate_mhz": 249_890, "lsb_nv": 2500,
}  # fmt: skip
RAMP = np.arange(24, dtype=np.int16).reshape(2, 12)


def decode_all(message: bytes) -> None:
    for part in split_message(message):
        _ = part is None or part.samples


def test_header_is_laid_out_as_the_wire_page_says() -> None:
    """[WF1] 52 bytes, little endian, each field at its place."""
    frame = build_frame(**FIELDS, samples=RAMP, saturated_mask=2, flags=Flag.SIMULATED, numbering=0xBEEF)

    assert frame[:2] == b"EC"
    assert frame[2] >> 4 == 2
    assert frame[3] == 8
    assert frame[4:8] == bytes((4, 3, 2, 1))
    assert int.from_bytes(frame[16:24], "little") == 1_763_712_000_123_456_000
    assert int.from_bytes(frame[24:30], "little") == 77
    assert int.from_bytes(frame[30:32], "little") == 0xBEEF
    assert int.from_bytes(frame[32:36], "little") == 249_890
    assert int.from_bytes(frame[36:38], "little") == 12
    assert int.from_bytes(frame[38:40], "little") == 0b11
    assert int.from_bytes(frame[42:44], "little") == 0b10
    assert peek_stream_id(frame) == 0x01020304


def test_committed_vectors_are_what_the_code_makes() -> None:
    """The file that the browser's tests read cannot drift from the Python side."""
    assert generate.PATH.read_text("utf-8") == generate.render()


@pytest.mark.parametrize("vector", json.loads(generate.PATH.read_text("utf-8"))["broken"], ids=lambda v: v["name"])
def test_broken_messages_are_refused(vector: dict[str, str]) -> None:
    """[WF1] [WF4] Each broken vector raises the one error, and the right kind of it."""
    with pytest.raises(MalformedFrame) as caught:
        decode_all(base64.b64decode(vector["message"]))
    assert isinstance(caught.value, UnsupportedFrame) is (vector["error"] == "unsupported")


def test_noise_falls_back_to_raw_and_stays_exact() -> None:
    """Rice would grow on full-range noise: the encoder escapes to plain int16."""
    noise = np.random.default_rng(4).integers(-32768, 32768, (12, 50)).astype(np.int16)

    frame = parse_frame(build_frame(**FIELDS, samples=noise))

    assert frame.codec == 0
    assert len(frame.encoded) == 52 + 12 * 50 * 2
    assert np.array_equal(frame.samples, noise)


def test_invalid_runs_are_not_signal() -> None:
    """[W6] A hole in one lead inside a frame is expressed, and only there."""
    frame = parse_frame(build_frame(**FIELDS, samples=RAMP, invalid_runs=[InvalidRun(1, 2, 3, 4)]))

    assert frame.valid[0].all()
    assert np.flatnonzero(~frame.valid[1]).tolist() == [3, 4, 5, 6]


def test_redundant_frame_is_left_out_when_it_does_not_fit_one_packet() -> None:
    """[WF5] Two packets would be lost twice as often."""
    noise = np.random.default_rng(4).integers(-32768, 32768, (12, 40)).astype(np.int16)
    first = build_frame(**FIELDS, samples=noise)
    second = build_frame(**{**FIELDS, "seq": 10}, samples=noise)

    assert len(first) <= MAX_PACKET_BYTES < len(first) + len(second)
    assert build_message(second, first) == second


def test_message_of_two_frames_comes_apart_as_they_were() -> None:
    """[WF4] Both frames come back as their source made them, without the flags of the trip."""
    first = build_frame(**FIELDS, samples=RAMP)
    second = build_frame(**{**FIELDS, "seq": 10, "first_sample": 89}, samples=RAMP)

    newest, previous = split_message(build_message(second, first))

    assert newest.encoded == second
    assert previous is not None
    assert previous.encoded == first
    assert split_message(with_flags(second, add=Flag.RESEND))[0].encoded == second


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    """[W1] No sample of a damaged frame is ever used."""
    frame = build_frame(**FIELDS, samples=RAMP, pace_offsets=(3,))
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedFrame):
            parse_frame(bytes(damaged))


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": RAMP.astype(np.int32)},
        {"samples": RAMP, "lead_mask": 0b111},
        {"samples": RAMP, "seq": 2**32},
        {"samples": RAMP, "t0_us": -1},
        {"samples": RAMP, "lead_off_mask": 1},
        {"samples": np.zeros((2, 0), np.int16)},
        {"samples": np.zeros((2, 3000), np.int16)},
        {"samples": RAMP, "invalid_runs": [InvalidRun(2, 1, 0, 1)]},
        {"samples": RAMP, "pace_offsets": (12,)},
    ],
)
def test_a_frame_nobody_would_accept_is_not_built(wrong: dict[str, object]) -> None:
    """Sources learn of their bug, receivers do not."""
    with pytest.raises(ValueError):
        build_frame(**{**FIELDS, **wrong})  # type: ignore[arg-type]


def test_real_record_fits_its_packets() -> None:
    """[WF5] 50 ms frames of the 1000 Hz record, with their predecessor, stay within one packet."""
    record = generate.dicom_rhythm()
    stream = StreamFormat(stream_id=1, leads=12, sample_rate_mhz=1_000_000, lsb_nv=1250, simulated=True)
    writer = FrameWriter(stream)
    assert stream.block_samples == 50

    messages = [
        writer.write(record[:, i : i + 50], t0_us=i * 1000, context_version=1) for i in range(0, record.shape[1], 50)
    ]

    assert max(map(len, messages)) <= MAX_PACKET_BYTES
    decoded = np.concatenate([split_message(m)[0].samples for m in messages], axis=1)
    assert np.array_equal(decoded, record)
    assert all(split_message(m)[1] is not None for m in messages[1:])


def test_writer_marks_gaps_restarts_and_clock_steps() -> None:
    """[WF6] [WF7] seq goes on, the index tells holes and begins anew at a restart or when the clock steps."""
    writer = FrameWriter(StreamFormat(stream_id=1, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=False))
    first = split_message(writer.write(RAMP, t0_us=0, context_version=1))[0]
    writer.skip(5)
    gap = split_message(writer.write(RAMP, t0_us=34_000, context_version=1))[0]
    again = split_message(writer.write(RAMP, t0_us=58_000, context_version=1, restart=True))[0]
    stepped = split_message(writer.write(RAMP, t0_us=2_000_000, context_version=1))[0]

    assert [f.seq for f in (first, gap, again, stepped)] == [0, 1, 2, 3]
    assert [f.first_sample for f in (first, gap, again, stepped)] == [0, 17, 0, 0]
    assert [int(f.flags) for f in (first, gap, again, stepped)] == [128, 1, 128, 128]


def test_writer_leaves_out_leads_that_are_off() -> None:
    """[W6] A lead without contact sends nothing that could be taken for a flat line."""
    writer = FrameWriter(StreamFormat(stream_id=1, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=True))

    frame = split_message(writer.write(RAMP, t0_us=0, context_version=1, lead_off_mask=0b01))[0]

    assert (frame.lead_mask, frame.lead_off_mask, frame.leads) == (0b10, 0b01, (1,))
    assert np.array_equal(frame.samples, RAMP[1:])
    assert frame.flags & Flag.SIMULATED
