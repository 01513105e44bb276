"""A burst as one group of viewers gets it: packets laid out once, with room for what differs.

Viewers that negotiated the same header extensions get the same bytes but for the header, the
transport-wide number and the counters of a VP8 picture. `lay_out` makes the bytes, ``Row`` says where those are;
filling them in is ``media.aio.forward`` and, the same in C, ``media/native/fanout.c``.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from media.core import rtp
from media.core.rewriter import Segment
from media.core.router import ExtensionPlan, Packet, Picture, Row, plan_runs

_ROOM: Final = bytes(rtp.FIXED_HEADER_BYTES)
_NUMBER: Final = bytes(2)
_TWO_BYTE_FORM: Final = rtp.TWO_BYTE_PROFILE.to_bytes(2, "big")
_ONE_RUN: Final = [(0, 1)]
_new = tuple.__new__
"""A named tuple without a call in Python."""


class Layout(NamedTuple):
    """A burst for one group."""

    rows: list[Row]
    runs: list[tuple[int, int]]
    """Index pairs: rows that leave in one call."""
    sizes: list[int]
    """Bytes of each row."""
    least: int
    """Least number among the rows."""
    total_bytes: int


def lay_out(burst: Sequence[Packet], plan: ExtensionPlan, payload_type: int, now_us: int) -> Layout:
    """Templates of a burst.

    Args:
        burst: one packet at least.
        plan: the group's extensions.
        payload_type: the Router's.
        now_us: stands in the abs-send-time extension.
    """
    rows: list[Row] = []
    common: tuple[bytes, int] | None = None
    for packet in burst:
        payload = packet.payload
        if packet.extensions:
            extensions, counter_at = extension_block(packet.extensions, plan, now_us)
        else:
            if common is None:
                head, tail, counter_at = _common(plan)
                common = head + (send_time(now_us) if plan.abs_send_time_id else b"") + tail, counter_at
            extensions, counter_at = common
        template = _ROOM + extensions + payload
        size = len(template)
        word = (0x9000 if extensions else 0x8000) | packet.marker | payload_type
        picture = packet.picture
        if picture is not None:  # from the payload's offsets to the template's
            ahead = size - len(payload)
            at, wide, number, tl0_at, tl0 = picture
            picture = _new(Picture, (at + ahead, wide, number, tl0_at + ahead if tl0_at >= 0 else -1, tl0))
        rows.append((template, size, word, packet.number, packet.timestamp, len(payload), picture, counter_at))
    if len(rows) == 1:
        return _new(Layout, (rows, _ONE_RUN, [size], packet.number, size))
    sizes = [row[1] for row in rows]
    return Layout(rows, plan_runs(sizes), sizes, min([row[3] for row in rows]), sum(sizes))


@lru_cache(256)
def _common(plan: ExtensionPlan) -> tuple[bytes, bytes, int]:
    """Of packets that bring no extensions: the block before and behind the time of sending, offset of the number."""
    block, counter_at = extension_block((), plan, 0)
    at = send_time_at(plan)
    return block[:at], block[at + 3 :], counter_at


def send_time(now_us: int) -> bytes:
    """Value of the abs-send-time extension: 24 bits of seconds in 6.18 fixed point."""
    return ((now_us << 18) // 1_000_000 & 0xFFFFFF).to_bytes(3, "big")


def send_time_at(plan: ExtensionPlan) -> int:
    """Where that value begins in a block of one-byte elements; the block's end without one."""
    return 5 if plan.abs_send_time_id else 1 << 16


def extension_block(own: Sequence[tuple[int, bytes]], plan: ExtensionPlan, now_us: int) -> tuple[bytes, int]:
    """Header extensions of one packet, and the offset in the packet of its transport-wide number (-1 without).

    Args:
        own: what the packet brought, under the Router's ids.
    """
    elements = []
    before = 0
    if plan.abs_send_time_id:
        elements.append((plan.abs_send_time_id, send_time(now_us)))
        before = 1
    if plan.transport_cc_id:
        elements.append((plan.transport_cc_id, _NUMBER))
    for element in own:
        if element[0] in plan.ids:
            elements.append(element)
    block = rtp.build_extensions(elements)
    if not plan.transport_cc_id:
        return block, -1
    head = 2 if block[:2] == _TWO_BYTE_FORM else 1  # id and length take two bytes in that form
    return block, rtp.FIXED_HEADER_BYTES + 4 + before * (head + 3) + head


def renumber(data: bytearray, at: int, picture: Picture, segment: Segment) -> None:
    """Count the pictures of a VP8 payload at an offset as this viewer has seen them so far."""
    where = at + picture.at
    if picture.wide:
        shifted = (picture.number + segment.picture_shift) & 0x7FFF
        data[where] = 0x80 | shifted >> 8
        data[where + 1] = shifted & 0xFF
    else:
        data[where] = (picture.number + segment.picture_shift) & 0x7F
    if picture.tl0_at >= 0:
        data[at + picture.tl0_at] = (picture.tl0 + segment.tl0_shift) & 0xFF
