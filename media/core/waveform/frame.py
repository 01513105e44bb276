"""One waveform frame: a 52-byte envelope and the coded samples of a moment.

A frame stands alone: stream, patient context, server time, sample index and rate
are in its header, so a receiver that missed everything before still knows whose
sample it is and where it belongs. The envelope is checked in full on arrival; the
samples are decoded only where someone looks at them, which the relay never does.

A message on the wire is a frame, usually followed by the frame before it, so one
lost message costs nothing (`build_message`, `split_message`). Byte layout:
media/WAVEFORM_WIRE.md. Coding of samples is `rice.py`.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import rice
from media.core.waveform.errors import MalformedFrame, UnsupportedFrame

HEADER: Final = struct.Struct("<2sBBIIIqQIHHHHHHI")
HEADER_BYTES: Final = 52
CRC_OFFSET: Final = 48
MAGIC: Final = b"EC"
VERSION: Final = 2

MAX_SAMPLES: Final = 2048
"""Samples per lead in one frame: 200 ms of the fastest rate a stream may announce."""
MAX_FRAME_BYTES: Final = 8192
"""More than any sane frame; bounds the work a hostile one can cause."""
MAX_PACKET_BYTES: Final = 1161
"""User data of one SCTP packet of aiortc; beyond it a message is two packets, twice as easily lost."""
MAX_TIME_US: Final = 2**53 - 1
"""Microseconds stay exact in a JavaScript number."""
MAX_INDEX: Final = 2**48 - 1
MAX_NUMBERING: Final = 2**16 - 1
_INDEX_BITS: Final = 48

_LIMB_MASK: Final = (1 << rice.LIMB_LEADS) - 1
_RUN: Final = struct.Struct("<BBHH")
_CRC: Final = struct.Struct("<I")


class Codec(IntEnum):
    """How the samples are coded."""

    RAW16 = 0
    SPLIT_RICE = 1


class Flag(IntFlag):
    """Frame flags (WAVEFORM.md section 4)."""

    GAP_BEFORE = 1
    """The source had no samples right before this frame; never to be filled."""
    RESEND = 2
    CLOCK_UNSYNCED = 4
    SIMULATED = 8
    PACE_EVENTS = 16
    REDUNDANT = 32
    """The frame before this one follows in the same message."""
    STREAM_END = 64
    SESSION_RESTART = 128
    """Index and time begin anew here; ``seq`` goes on."""


TRANSPORT_FLAGS: Final = Flag.RESEND | Flag.REDUNDANT
"""Flags of one trip over the wire, not of the frame."""


class InvalidReason(IntEnum):
    """Why samples inside a frame are no signal; an unknown reason is as invalid as a known one."""

    MISSING = 1
    LEAD_OFF = 2
    SATURATED = 3
    ARTEFACT = 4
    CALIBRATION = 5


@dataclass(frozen=True, slots=True)
class InvalidRun:
    """``count`` samples of one lead, from offset ``first`` in the frame, that are not signal."""

    lead: int
    """Bit number of the lead in the frame's lead mask."""
    reason: int
    first: int
    count: int


@dataclass(frozen=True, kw_only=True)
class WaveformFrame:
    """A frame whose envelope is proven sound."""

    stream_id: int
    seq: int
    flags: Flag
    context_version: int
    t0_ns: int
    """Server time of the first sample, nanoseconds since 1970."""
    first_sample: int
    numbering: int
    """The source's name for the counting that ``seq`` is of; 0: it has none. [WF19]"""
    sample_rate_mhz: int
    n: int
    """Samples per lead."""
    lead_mask: int
    lead_off_mask: int
    saturated_mask: int
    lsb_nv: int
    """Nanovolts per step; 0 means the descriptor's."""
    codec: Codec
    invalid_runs: tuple[InvalidRun, ...]
    pace_offsets: tuple[int, ...]
    """Offsets in this frame at which the device saw a pacemaker pulse."""
    payload: bytes
    encoded: bytes
    """The frame itself, without what followed it in its message."""

    @property
    def leads(self) -> tuple[int, ...]:
        """Bit numbers of the leads that have samples here, in the order of the rows of `samples`."""
        return tuple(bit for bit in range(16) if self.lead_mask >> bit & 1)

    @property
    def t0_us(self) -> int:
        """Server time of the first sample, microseconds since 1970."""
        return self.t0_ns // 1000

    @property
    def crc(self) -> int:
        """Check sum of the frame without `TRANSPORT_FLAGS`."""
        return int.from_bytes(self.encoded[CRC_OFFSET:HEADER_BYTES], "little")

    @property
    def end_sample(self) -> int:
        """Index of the sample after the last one."""
        return self.first_sample + self.n

    @cached_property
    def samples(self) -> NDArray[np.int16]:
        """Raw steps, shape ``(len(leads), n)``; scaling is the display's job.

        Raises:
            MalformedFrame: the coded bits do not hold the promised samples.
        """
        count = self.lead_mask.bit_count()
        if self.codec is Codec.SPLIT_RICE:
            return rice.decode(self.payload, count, self.n, limb=_has_limb_leads(self.lead_mask))
        return np.frombuffer(self.payload, "<i2").astype(np.int16).reshape(count, self.n)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Which of `samples` are signal, same shape."""
        mask = np.ones((self.lead_mask.bit_count(), self.n), np.bool_)
        row = {lead: i for i, lead in enumerate(self.leads)}
        for run in self.invalid_runs:
            mask[row[run.lead], run.first : run.first + run.count] = False
        return mask


def build_frame(
    *,
    stream_id: int,
    seq: int,
    context_version: int,
    t0_us: int,
    first_sample: int,
    sample_rate_mhz: int,
    samples: NDArray[np.int16],
    numbering: int = 0,
    lead_mask: int | None = None,
    lead_off_mask: int = 0,
    saturated_mask: int = 0,
    lsb_nv: int = 0,
    flags: Flag = Flag(0),  # noqa: B008 -- an immutable constant
    invalid_runs: Sequence[InvalidRun] = (),
    pace_offsets: Sequence[int] = (),
) -> bytes:
    """Encode one frame, by split Rice where that is smaller than plain int16.

    Args:
        t0_us: server time of the first sample, microseconds since 1970.
        samples: raw steps, int16, shape ``(present leads, n)``, rows in mask bit order.
        numbering: the source's name for its counting of frames.
        lead_mask: bit numbers of the rows; the lowest bits when not given.
        lead_off_mask: leads without contact for the whole frame; not in ``lead_mask``.

    Raises:
        ValueError: arguments that no receiver would accept.
    """
    if samples.dtype != np.int16 or samples.ndim != 2:
        raise ValueError(f"samples must be int16 of shape (leads, n), not {samples.dtype} {samples.shape}")
    mask = (1 << samples.shape[0]) - 1 if lead_mask is None else lead_mask
    if mask.bit_count() != samples.shape[0]:
        raise ValueError(f"lead mask {mask:#x} does not name {samples.shape[0]} leads")
    if not 0 <= first_sample <= MAX_INDEX or not 0 <= numbering <= MAX_NUMBERING:
        raise ValueError(f"index {first_sample} or numbering {numbering} out of range")
    codec, payload = _encode_samples(np.ascontiguousarray(samples), mask)
    runs = b"".join(_RUN.pack(run.lead, run.reason, run.first, run.count) for run in invalid_runs)
    pace = b""
    flags &= ~Flag.PACE_EVENTS
    if pace_offsets:
        flags |= Flag.PACE_EVENTS
        pace = struct.pack(f"<B{len(pace_offsets)}H", len(pace_offsets), *pace_offsets)
    try:
        head = HEADER.pack(
            MAGIC, VERSION << 4 | codec, flags & ~Flag.REDUNDANT, stream_id, seq, context_version, t0_us * 1000,
            numbering << _INDEX_BITS | first_sample, sample_rate_mhz, samples.shape[1], mask, lead_off_mask,
            saturated_mask, lsb_nv, len(runs), 0,
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(f"frame field out of range: {error}") from None
    frame = _seal(head[:CRC_OFFSET], runs + payload + pace)
    parse_frame(frame)
    return frame


def parse_frame(payload: bytes) -> WaveformFrame:
    """Check the envelope of one frame, nothing after it; leave the signal untouched.

    Raises:
        UnsupportedFrame: another version or codec.
        MalformedFrame: anything else that is not one whole sound frame. No other
            exception is raised, whatever the bytes.
    """
    frame = _parse_leading(payload)
    if len(frame.encoded) != len(payload):
        raise MalformedFrame("bytes after the end of the frame")
    if frame.flags & Flag.REDUNDANT:
        raise MalformedFrame("announces a second frame that is not there")
    return frame


def build_message(frame: bytes, previous: bytes | None) -> bytes:
    """``frame`` with the one before it appended, where both fit one packet.

    Args:
        frame: from `build_frame`.
        previous: the frame sent before, or None at the start.
    """
    if previous is None or len(frame) + len(previous) > MAX_PACKET_BYTES:
        return frame
    return with_flags(frame, add=Flag.REDUNDANT) + previous


def split_message(message: bytes) -> tuple[WaveformFrame, WaveformFrame | None]:
    """The frame of a message, and the one before it when appended. Both come back without `TRANSPORT_FLAGS`.

    Raises:
        MalformedFrame: either frame is not sound, or they are not neighbours of one stream.
    """
    first = _parse_leading(message)
    rest = message[len(first.encoded) :]
    if not first.flags & Flag.REDUNDANT:
        if rest:
            raise MalformedFrame("bytes after the end of the frame")
        return _canonical(first), None
    previous = parse_frame(rest)
    if previous.stream_id != first.stream_id or previous.seq + 1 != first.seq:
        raise MalformedFrame("appended frame is not the one before")
    return _canonical(first), _canonical(previous)


def with_flags(frame: bytes, *, add: Flag = Flag(0), remove: Flag = Flag(0)) -> bytes:  # noqa: B008
    """The same sound frame with other flags and a fitting CRC."""
    flags = Flag(frame[3]) & ~remove | add
    return _seal(frame[:3] + bytes((flags,)) + frame[4:CRC_OFFSET], frame[HEADER_BYTES:])


def peek_stream_id(frame: bytes) -> int:
    """Stream id of a frame that is known to be sound."""
    return int.from_bytes(frame[4:8], "little")


def _seal(head: bytes, body: bytes) -> bytes:
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body


def split_index(index: int) -> tuple[int, int]:
    """Index of the first sample, and the numbering, of the header's eight bytes."""
    return index & MAX_INDEX, index >> _INDEX_BITS


def _canonical(frame: WaveformFrame) -> WaveformFrame:
    if not frame.flags & TRANSPORT_FLAGS:
        return frame
    values = {**frame.__dict__, "flags": frame.flags & ~TRANSPORT_FLAGS}
    values["encoded"] = with_flags(frame.encoded, remove=TRANSPORT_FLAGS)
    return WaveformFrame(**values)


def _has_limb_leads(mask: int) -> bool:
    return mask & _LIMB_MASK == _LIMB_MASK


def _encode_samples(samples: NDArray[np.int16], mask: int) -> tuple[Codec, bytes]:
    raw = samples.astype("<i2").tobytes()
    if samples.shape[0] and samples.shape[1] > 1:
        coded = rice.encode(samples, limb=_has_limb_leads(mask))
        if len(coded) < len(raw):
            return Codec.SPLIT_RICE, coded
    return Codec.RAW16, raw


def _parse_leading(data: bytes) -> WaveformFrame:
    """The frame at the start of ``data``; its own bytes are found from its header and payload."""
    if len(data) < HEADER_BYTES:
        raise MalformedFrame("shorter than a header")
    (magic, version_codec, flags, stream_id, seq, context_version, t0_ns, index, rate_mhz, n,
     mask, off_mask, saturated_mask, lsb_nv, run_bytes, crc) = HEADER.unpack_from(data)  # fmt: skip
    first_sample, numbering = split_index(index)
    if magic != MAGIC:
        raise MalformedFrame("not a waveform frame")
    if version_codec >> 4 != VERSION or version_codec & 15 not in (Codec.RAW16, Codec.SPLIT_RICE):
        raise UnsupportedFrame(f"version and codec {version_codec:#04x}")
    codec, flags = Codec(version_codec & 15), Flag(flags)
    _check_header(flags, stream_id, t0_ns, first_sample, rate_mhz, n, mask, off_mask)
    payload_at = HEADER_BYTES + run_bytes
    if run_bytes % _RUN.size or payload_at > len(data):
        raise MalformedFrame("invalid runs cut short")
    leads = mask.bit_count()
    tail = data[payload_at : payload_at + MAX_FRAME_BYTES]
    length = rice.coded_length(tail, leads, n) if codec is Codec.SPLIT_RICE else 2 * leads * n
    pace_at = payload_at + length
    end = pace_at
    if flags & Flag.PACE_EVENTS:
        end += 1 + 2 * data[pace_at] if pace_at < len(data) else 1
    if end > min(len(data), MAX_FRAME_BYTES):
        raise MalformedFrame("frame cut short or too long")
    if zlib.crc32(data[HEADER_BYTES:end], zlib.crc32(data[:CRC_OFFSET])) != crc:
        raise MalformedFrame("CRC does not match")
    return WaveformFrame(
        stream_id=stream_id, seq=seq, flags=flags, context_version=context_version, t0_ns=t0_ns,
        first_sample=first_sample, numbering=numbering, sample_rate_mhz=rate_mhz, n=n, lead_mask=mask,
        lead_off_mask=off_mask, saturated_mask=saturated_mask, lsb_nv=lsb_nv, codec=codec,
        invalid_runs=_parse_runs(data[HEADER_BYTES:payload_at], mask, n),
        pace_offsets=_parse_pace(data[pace_at:end], n),
        payload=data[payload_at:pace_at], encoded=data[:end],
    )  # fmt: skip


def _check_header(
    flags: Flag, stream_id: int, t0_ns: int, first_sample: int, rate_mhz: int, n: int, mask: int, off_mask: int
) -> None:
    if stream_id == 0 or rate_mhz == 0:
        raise MalformedFrame("stream id and sample rate must not be 0")
    if not 0 <= t0_ns <= MAX_TIME_US * 1000 or first_sample + n > MAX_INDEX:
        raise MalformedFrame("time or index out of range")
    if mask & off_mask:
        raise MalformedFrame("a lead is both present and off")
    if n > MAX_SAMPLES:
        raise MalformedFrame("too many samples")
    if (n == 0 or not mask | off_mask) and not (flags & Flag.STREAM_END and n == 0 and mask == 0):
        raise MalformedFrame("no samples")


def _parse_runs(data: bytes, mask: int, n: int) -> tuple[InvalidRun, ...]:
    runs = tuple(InvalidRun(*fields) for fields in _RUN.iter_unpack(data))
    for run in runs:
        if run.lead > 15 or not mask >> run.lead & 1 or run.count == 0 or run.first + run.count > n:
            raise MalformedFrame("invalid run outside the frame")
    return runs


def _parse_pace(data: bytes, n: int) -> tuple[int, ...]:
    if not data:
        return ()
    offsets = struct.unpack(f"<{data[0]}H", data[1:])
    if not offsets or offsets[-1] >= n or any(b <= a for a, b in pairwise(offsets)):
        raise MalformedFrame("pace events must rise within the frame")
    return offsets
