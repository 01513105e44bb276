"""Golden vectors of the waveform wire: the Python and the TypeScript tests read the same file.

Run `python -m tests.vectors.waveform.generate` in the project folder after a change of the wire; a unit
test fails when the committed file is not what this makes. Real frames come from
pydicom's own 12-lead record, the rest from seeded generators.
"""

import base64
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file

from media.core.waveform import (
    Flag,
    FrameWriter,
    GapTracker,
    InvalidRun,
    StreamFormat,
    WaveformFrame,
    build_frame,
    build_message,
    parse_frame,
    split_message,
    with_flags,
)

PATH = Path(__file__).with_name("vectors.json")
SEED = 20_251
T0_US = 1_763_712_000_000_000


def dicom_rhythm() -> NDArray[np.int16]:
    """The RHYTHM group of pydicom's record, raw steps of 1.25 uV, shape (12, 10000), 1000 Hz."""
    groups = dcmread(str(get_testdata_file("waveform_ecg.dcm"))).WaveformSequence
    group = next(g for g in groups if g.MultiplexGroupLabel == "RHYTHM")
    return np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12).T.astype(np.int16)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def describe(frame: WaveformFrame) -> dict[str, Any]:
    return {
        "stream_id": frame.stream_id,
        "seq": frame.seq,
        "flags": int(frame.flags),
        "context_version": frame.context_version,
        "t0_us": frame.t0_us,
        "first_sample": frame.first_sample,
        "numbering": frame.numbering,
        "sample_rate_mhz": frame.sample_rate_mhz,
        "n": frame.n,
        "lead_mask": frame.lead_mask,
        "lead_off_mask": frame.lead_off_mask,
        "saturated_mask": frame.saturated_mask,
        "lsb_nv": frame.lsb_nv,
        "codec": int(frame.codec),
        "invalid_runs": [[r.lead, r.reason, r.first, r.count] for r in frame.invalid_runs],
        "pace_offsets": list(frame.pace_offsets),
        "samples": text(frame.samples.astype("<i2").tobytes()),
    }


def good(name: str, message: bytes) -> dict[str, Any]:
    frame, previous = split_message(message)
    return {
        "name": name,
        "message": text(message),
        "frame": describe(frame),
        "previous": None if previous is None else describe(previous),
    }


def dicom_messages() -> list[dict[str, Any]]:
    record = dicom_rhythm()
    fmt = StreamFormat(stream_id=7, leads=12, sample_rate_mhz=1_000_000, lsb_nv=1250, simulated=True)
    writer = FrameWriter(fmt)
    messages = []
    for start in range(0, 600, fmt.block_samples):
        block = record[:, start : start + fmt.block_samples]
        messages.append(writer.write(block, t0_us=T0_US + start * 1000, context_version=3))
    return [good(f"dicom {i}", message) for i, message in enumerate(messages)]


def random_messages() -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    result = []
    for i in range(60):
        leads, n = int(rng.integers(1, 16)), int(rng.integers(1, 120))
        samples = (rng.integers(-32768, 32768, (leads, n)) >> int(rng.integers(0, 16))).astype(np.int16)
        if i % 7 == 0:
            samples[:] = samples[:, :1]
        if i % 5 == 0:
            samples[:, n // 2] = 32767
        frame = build_frame(
            stream_id=int(rng.integers(1, 2**32)),
            seq=int(rng.integers(0, 2**32)),
            context_version=int(rng.integers(0, 2**32)),
            t0_us=int(rng.integers(0, 2**53)),
            first_sample=int(rng.integers(0, 2**48 - 4096)),
            numbering=int(rng.integers(0, 2**16)),
            sample_rate_mhz=int(rng.integers(1, 10_000_001)),
            samples=samples,
            lsb_nv=int(rng.integers(0, 65536)),
            flags=Flag(int(rng.integers(0, 256))) & ~(Flag.REDUNDANT | Flag.PACE_EVENTS),
        )
        result.append(good(f"random {i}", frame))
    return result


def edge_frames() -> list[tuple[str, bytes]]:
    base: dict[str, Any] = {
        "stream_id": 1, "seq": 5, "context_version": 2, "t0_us": T0_US, "first_sample": 400, "sample_rate_mhz": 500_000,
    }  # fmt: skip
    ramp = np.arange(-60, 60, dtype=np.int16).reshape(2, 60)
    full = np.tile(np.array([-32768, 32767], np.int16), (12, 30))
    return [
        ("one sample", build_frame(**base, samples=ramp[:, :1])),
        ("leads off", build_frame(**base, samples=ramp, lead_mask=0b1001, lead_off_mask=0b0110)),
        ("all off", build_frame(**base, samples=np.zeros((0, 50), np.int16), lead_off_mask=0xFFF)),
        ("saturated", build_frame(**base, samples=full, saturated_mask=0xFFF)),
        ("runs", build_frame(**base, samples=ramp, invalid_runs=(InvalidRun(0, 4, 0, 60), InvalidRun(1, 99, 58, 2)))),
        ("pace", build_frame(**base, samples=ramp, pace_offsets=(0, 7, 59))),
        ("end", build_frame(**base, samples=np.zeros((0, 0), np.int16), flags=Flag.STREAM_END)),
        ("largest index", build_frame(**{**base, "first_sample": 2**48 - 61, "t0_us": 2**53 - 1}, samples=ramp)),
    ]


def broken() -> list[dict[str, str]]:
    """Messages to refuse; where something else would hide the fault, the CRC is made to fit."""
    one = dict(edge_frames())["runs"]
    rice = base64.b64decode(dicom_messages()[0]["message"])
    frame, previous = split_message(base64.b64decode(dicom_messages()[2]["message"]))
    assert previous is not None

    def sealed(data: bytes, at: int, value: bytes) -> bytes:
        return with_flags(data[:at] + value + data[at + len(value) :])

    payload_at = 52
    return [
        {"name": name, "message": text(message), "error": error}
        for name, message, error in [
            ("empty", b"", "malformed"),
            ("header cut", one[:51], "malformed"),
            ("cut", one[:-1], "malformed"),
            ("more", one + b"\0", "malformed"),
            ("magic", sealed(one, 0, b"EE"), "malformed"),
            ("version 1", sealed(one, 2, b"\x11"), "unsupported"),
            ("codec 2", sealed(one, 2, b"\x22"), "unsupported"),
            ("crc", one[:-1] + bytes((one[-1] ^ 1,)), "malformed"),
            ("stream 0", sealed(one, 4, b"\0\0\0\0"), "malformed"),
            ("rate 0", sealed(one, 32, b"\0\0\0\0"), "malformed"),
            ("no samples", sealed(one, 36, b"\0\0"), "malformed"),
            ("present and off", sealed(one, 40, b"\1\0"), "malformed"),
            ("negative time", sealed(one, 23, b"\xff"), "malformed"),
            ("huge index", sealed(one, 24, b"\xff" * 6), "malformed"),
            ("odd runs", sealed(one, 46, b"\x05\0"), "malformed"),
            ("run of an absent lead", sealed(one, payload_at, b"\x03"), "malformed"),
            ("run past the end", sealed(one, payload_at + 4, b"\xff\xff"), "malformed"),
            ("order 3", sealed(rice, payload_at + 24, b"\x30"), "malformed"),
            ("k 15", sealed(rice, payload_at + 24, b"\x0f"), "malformed"),
            ("unary too short", sealed(rice, payload_at + 38, b"\0\0\0\0"), "malformed"),
            ("announced second frame missing", with_flags(one, add=Flag.REDUNDANT), "malformed"),
            ("second frame of another stream", with_flags(frame.encoded, add=Flag.REDUNDANT) + one, "malformed"),
            ("second frame is the same", with_flags(frame.encoded, add=Flag.REDUNDANT) + frame.encoded, "malformed"),
            (
                "three frames",
                with_flags(frame.encoded, add=Flag.REDUNDANT)
                + with_flags(previous.encoded, add=Flag.REDUNDANT)
                + previous.encoded,
                "malformed",
            ),
        ]
    ]


def stories() -> list[dict[str, Any]]:
    """Frames out of order, lost, doubled and restarted, and where each must go."""
    result = []
    for seed in range(60):
        rng = random.Random(SEED + seed)
        frames = story(rng, named=seed >= 40)
        arrivals = sorted(
            (i + rng.choice((0, 0, 0, 3, 12)), k, frame)
            for i, frame in enumerate(frames)
            for k in range(rng.choice((0, 1, 1, 1, 2)))
        )
        tracker = GapTracker(500_000)
        steps = []
        for _, _, data in arrivals:
            frame = parse_frame(data)
            placement = tracker.offer(frame)
            steps.append(
                {
                    "frame": [frame.seq, int(frame.flags), frame.t0_us, frame.first_sample, frame.n, frame.numbering],
                    "placement": None
                    if placement is None
                    else [placement.position, placement.session, placement.late, placement.restart],
                }
            )
        result.append({"steps": steps, "missing": [list(r) for r in tracker.missing], "restarts": tracker.restarts})
    return result


def story(rng: random.Random, named: bool) -> list[bytes]:
    """A device's frames; one that names its numberings [WF19] may be set back by any clock when it is switched on."""
    fmt = StreamFormat(stream_id=3, leads=1, sample_rate_mhz=500_000, lsb_nv=1000, simulated=False)
    writer, now_us, frames = FrameWriter(fmt, numbering=int(named)), T0_US, []
    for _ in range(40):
        event = rng.random()
        if event < 0.05 and named:
            writer, now_us = FrameWriter(fmt, numbering=writer.numbering + 1), now_us + rng.randrange(-9_000_000, 100)
        elif event < 0.05:
            writer, now_us = FrameWriter(fmt), now_us + rng.randrange(900_000, 4_000_000)
        elif event < 0.12:
            writer.restart()
            now_us += rng.randrange(-50_000, 400_001)
        elif event < 0.2:
            skipped = rng.randrange(1, 300)
            writer.skip(skipped)
            now_us += skipped * 2000
        n = rng.randrange(1, 60)
        message = writer.write(np.zeros((1, n), np.int16), t0_us=now_us + rng.randrange(0, 900), context_version=1)
        frames.append(split_message(message)[0].encoded)
        now_us += n * 2000
    return frames


def make() -> dict[str, Any]:
    edges = edge_frames()
    pair = build_message(dict(edges)["pace"], with_flags(_renumbered(dict(edges)["runs"], 4)))
    return {
        "good": dicom_messages() + random_messages() + [good(*edge) for edge in edges] + [good("pair", pair)],
        "broken": broken(),
        "stories": stories(),
    }


def _renumbered(frame: bytes, seq: int) -> bytes:
    return with_flags(frame[:8] + seq.to_bytes(4, "little") + frame[12:])


def render() -> str:
    """The committed text."""
    return json.dumps(make(), separators=(",", ":"), sort_keys=True).replace('},{"', '},\n{"') + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
