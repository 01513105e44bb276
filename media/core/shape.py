"""Where a video packet lies among its Producer's layers, frames and pictures.

Read from the payload descriptor (VP8, VP9, AV1; H264 has none) or from the dependency descriptor where the
publisher sends one, which serves every codec alike. Nothing is decoded, and nothing is raised: a payload too
short to tell is an ordinary packet of the lowest layer.

What is done with it, `takes` and `is_entrance`, are the two questions a lane asks of each packet.
"""

from typing import Final, NamedTuple

from media.core import codecs
from media.core.codecs import Buffer, Codec
from media.core.dependency import Descriptor, Indication
from media.core.router import Picture


class PacketShape(NamedTuple):
    """One packet."""

    spatial: int = 0
    temporal: int = 0
    first: bool = False
    """First packet of a frame of its layer."""
    key: bool = False
    """First packet of a key frame; always True for audio, which can start anywhere."""
    sync: bool = False
    """A viewer without this temporal layer may take it in from here on (VP8's Y bit)."""
    picture: Picture | None = None
    last: bool = False
    """Last packet of a frame of its layer; told by the dependency descriptor only."""
    wanted: dict[tuple[int, int], Indication] | None = None
    """What the frame is to each (spatial, temporal) choice; None without a dependency descriptor."""


_new: Final = tuple.__new__
"""A named tuple without a call in Python."""
SOUND: Final = PacketShape(first=True, key=True)


def read_shape(codec: Codec, data: Buffer, start: int, end: int, spatial: int) -> PacketShape:
    """Shape of a payload ``data[start:end]`` by its own descriptor.

    Args:
        spatial: index of the simulcast layer the packet came on.
    """
    if codec is Codec.VP8:
        return _vp8(data, start, end, spatial)
    key = codecs.is_key_frame(codec, data, start, end)
    return PacketShape(spatial, 0, key, key)


def _vp8(data: Buffer, start: int, end: int, spatial: int) -> PacketShape:
    """RFC 7741 section 4.2, in one walk: this runs for every packet."""
    if end - start > 6 and data[start] & data[start + 1] & data[start + 2] & 0x80:
        return _vp8_counted(data, start, spatial)
    if end - start < 2:
        return PacketShape(spatial)
    head, at = data[start], start + 1
    first = head & 0x17 == 0x10
    temporal, sync, picture = 0, False, None
    if head & 0x80:
        flags = data[at]
        at += 1
        picture_at = at
        wide = False
        if flags & 0x80:
            if at >= end:
                return PacketShape(spatial, 0, first)
            wide = data[at] & 0x80 != 0
            at += 2 if wide else 1
            if at > end:
                return PacketShape(spatial, 0, first)
        tl0_at = -1
        if flags & 0x40:
            tl0_at = at if at < end else -1
            at += 1
        if flags & 0x30:
            if flags & 0x20 and at < end:
                temporal, sync = data[at] >> 6, data[at] & 0x20 != 0
            at += 1
        if flags & 0x80:
            number = (data[picture_at] & 0x7F) << 8 | data[picture_at + 1] if wide else data[picture_at]
            tl0 = data[tl0_at] if tl0_at >= 0 else -1
            picture = Picture(picture_at - start, wide, number, tl0_at - start if tl0_at >= 0 else -1, tl0)
    return PacketShape(spatial, temporal, first, first and at < end and not data[at] & 1, sync and first, picture)


def _vp8_counted(data: Buffer, start: int, spatial: int) -> PacketShape:
    """The same where pictures are counted with 15 bits and everything is there: what browsers send."""
    flags, at = data[start + 1], 4
    temporal, sync, tl0_at, tl0 = 0, False, -1, -1
    if flags & 0x40:
        tl0_at, tl0 = 4, data[start + 4]
        at = 5
    if flags & 0x30:
        if flags & 0x20:
            byte = data[start + at]
            temporal, sync = byte >> 6, byte & 0x20 != 0
        at += 1
    number = (data[start + 2] & 0x7F) << 8 | data[start + 3]
    picture = _new(Picture, (2, True, number, tl0_at, tl0))
    if data[start] & 0x17 != 0x10:
        return _new(PacketShape, (spatial, temporal, False, False, False, picture, False, None))
    key = not data[start + at] & 1
    return _new(PacketShape, (spatial, temporal, True, key, sync, picture, False, None))


def described(found: Descriptor, layer: int | None) -> PacketShape:
    """Shape of a packet by its dependency descriptor.

    Args:
        layer: index of the simulcast layer it came on; None when all layers are in one stream (SVC).
    """
    wanted = {
        target if layer is None else (layer, target[1]): indication
        for target, indication in zip(found.targets, found.indications, strict=False)
    }
    spatial = found.spatial if layer is None else layer
    return PacketShape(spatial, found.temporal, found.first, found.key and found.first, False, None, found.last, wanted)


def takes(shape: PacketShape, spatial: int, temporal: int) -> bool:
    """Whether a lane of this layer up to this temporal layer holds the packet."""
    if shape.wanted is not None:
        indication = _indication(shape.wanted, spatial, temporal)
        if indication is not None:
            return indication is not Indication.NOT_PRESENT
    return shape.spatial <= spatial and shape.temporal <= temporal


def is_entrance(shape: PacketShape, spatial: int, temporal: int, present: int | None) -> bool:
    """Whether a viewer can begin to follow the lane with this packet.

    Args:
        present: temporal limit of a lane of the same layer the viewer follows now; None when it follows none.
    """
    if not shape.first or not takes(shape, spatial, temporal):
        return False
    if shape.key:
        return True
    if shape.wanted is not None:
        return present is not None and _indication(shape.wanted, spatial, temporal) is Indication.SWITCH
    if present is None:
        return False
    if temporal < present:
        return shape.temporal == 0  # what is left refers to nothing that is left out
    return shape.temporal == present + 1 and shape.sync


def _indication(wanted: dict[tuple[int, int], Indication], spatial: int, temporal: int) -> Indication | None:
    """The decode target of a lane, or the highest below its temporal limit."""
    for limit in range(temporal, -1, -1):
        found = wanted.get((spatial, limit))
        if found is not None:
            return found
    return None
