"""Waveforms as they cross the wire: frames, gaps, the relay's hub, placement at the receiver.

The relay calls `WaveformHub`, a source calls `FrameWriter`, a receiver in Python
calls `Assembler`. The byte layout is specified in media/WAVEFORM_WIRE.md; the
browser's half of it is web_client/src/waveform.
"""

from media.core.waveform.assemble import Assembler, Drawn
from media.core.waveform.errors import MalformedFrame, UnsupportedFrame
from media.core.waveform.frame import (
    Codec,
    Flag,
    InvalidReason,
    InvalidRun,
    WaveformFrame,
    build_frame,
    build_message,
    parse_frame,
    peek_stream_id,
    split_message,
    with_flags,
)
from media.core.waveform.gaps import GapTracker, Placement
from media.core.waveform.hub import StreamInUse, WaveformHub
from media.core.waveform.places import Place, Places
from media.core.waveform.ring import FrameRing
from media.core.waveform.writer import FrameWriter, StreamFormat

__all__ = [
    "Assembler",
    "Codec",
    "Drawn",
    "Flag",
    "FrameRing",
    "FrameWriter",
    "GapTracker",
    "InvalidReason",
    "InvalidRun",
    "MalformedFrame",
    "Place",
    "Placement",
    "Places",
    "StreamFormat",
    "StreamInUse",
    "UnsupportedFrame",
    "WaveformFrame",
    "WaveformHub",
    "build_frame",
    "build_message",
    "parse_frame",
    "peek_stream_id",
    "split_message",
    "with_flags",
]
