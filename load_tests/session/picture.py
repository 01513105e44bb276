"""Still pictures in VP8 that a real browser decodes: what simulated cameras begin their frames with.

A camera's frames have true sizes, and nothing more to say than that: a key frame of a grey picture and a frame that
changes nothing, made once by libvpx for each size, then filled up to the size that is wanted. A decoder reads no
further than the picture needs: the filling lies behind it, in the one token partition (RFC 6386 section 9.5), and so
do the trailers of all packets. Only a large key frame does not fit its first packet: there the first partition runs on
into filling, so that the picture's lower part is any, and is declared longer by ``SLACK_BYTES``, so that a decoder that
reads other modes there does not run past its end, which would be an error.
"""

from __future__ import annotations

import fractions
import functools
from typing import Final

from aiortc.codecs.vpx import Vp8Encoder, VpxPayloadDescriptor
from av import VideoFrame

SLACK_BYTES: Final = 400
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
    key, still = frames
    return _longer(key, SLACK_BYTES), still


def _longer(frame: bytes, by_bytes: int) -> bytes:
    """A frame whose first partition is declared longer: 19 bits of the tag (RFC 6386 section 9.1)."""
    tag = int.from_bytes(frame[:3], "little") + (by_bytes << 5)
    return tag.to_bytes(3, "little") + frame[3:]
