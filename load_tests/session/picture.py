"""Still pictures in VP8 that a real browser decodes: what simulated cameras begin their frames with.

A camera's frames have true sizes, and nothing more to say than that: a key frame of a grey picture and a frame that
changes nothing, made once by libvpx for each size, then filled up to the size that is wanted. A decoder reads no
further than the picture needs: the filling lies behind it, in the one token partition (RFC 6386 section 9.5), and so
do the trailers of all packets. Only a large key frame does not fit its first packet: its first partition runs on into
filling, so that the picture's lower part is any; decoders take that.
"""

from __future__ import annotations

import fractions
import functools
from typing import Final

from aiortc.codecs.vpx import Vp8Encoder, VpxPayloadDescriptor
from av import VideoFrame

_GREY: Final = (96, 128, 128)


@functools.cache
def still_frames(width: int, height: int) -> tuple[bytes, bytes]:
    """``(key frame, frame that changes nothing)``: beginnings, to be filled up."""
    encoder = Vp8Encoder()
    picture = VideoFrame(width, height, "yuv420p")
    picture.time_base = fractions.Fraction(1, 90_000)
    for plane, value in zip(picture.planes, _GREY, strict=True):
        plane.update(bytes((value,)) * plane.buffer_size)
    frames = []
    for number in range(2):
        picture.pts = number * 3_000
        payloads, _ = encoder.encode(picture, force_keyframe=False)
        frames.append(b"".join(VpxPayloadDescriptor.parse(one)[1] for one in payloads))
    return frames[0], frames[1]
