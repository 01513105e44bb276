"""Is an SCTP packet well formed and within our bounds?

One relay worker serves many consults, so every packet is walked here before it goes on
(RFC 9260 section 3): lengths, parameter lengths, gap widths, stream numbers.

The checksum and the state machine stay with aiortc (``media.aio.aiortc_port``).
"""

from struct import unpack_from

COMMON_HEADER_BYTES = 12
MAX_CHUNKS = 64
MAX_GAP_TSNS = 4096
"""Widest span of TSNs one SACK may report; our window is far smaller (about 100 chunks at 128 kB)."""
MAX_MISORDERED = 4096
"""TSNs that may wait for an earlier one before the peer is taken for hostile."""

_DATA, _INIT, _INIT_ACK, _SACK, _HEARTBEAT, _HEARTBEAT_ACK, _ABORT = range(7)
_ERROR, _COOKIE_ECHO, _RECONFIG, _FORWARD_TSN = 9, 10, 130, 192
_WITH_PARAMETERS = {_INIT: 16, _INIT_ACK: 16, _HEARTBEAT: 0, _HEARTBEAT_ACK: 0, _ABORT: 0, _ERROR: 0, _RECONFIG: 0}
"""Bytes of fixed fields before the parameters, by chunk type."""


def is_safe(packet: bytes, max_streams: int) -> bool:
    """Whether every length in the packet is sane; never raises.

    Args:
        packet: one SCTP packet as it came out of DTLS.
        max_streams: stream numbers at or above are refused.
    """
    end = len(packet)
    position = COMMON_HEADER_BYTES
    if end < position + 4:
        return False
    for _ in range(MAX_CHUNKS):
        if position + 4 > end:
            return position >= end
        kind, length = packet[position], unpack_from("!H", packet, position + 2)[0]
        if length < 4 or position + length > end:
            return False
        if not _chunk_is_safe(kind, packet[position + 4 : position + length], max_streams):
            return False
        position += length + (-length & 3)
    return False


def _chunk_is_safe(kind: int, body: bytes, max_streams: int) -> bool:
    if kind == _DATA:
        return len(body) > 12 and int(unpack_from("!H", body, 4)[0]) < max_streams
    if kind == _SACK:
        return _sack_is_safe(body)
    if kind == _FORWARD_TSN:
        return len(body) >= 4 and len(body) % 4 == 0
    fixed = _WITH_PARAMETERS.get(kind)
    return fixed is None or _parameters_are_safe(body, fixed)


def _sack_is_safe(body: bytes) -> bool:
    if len(body) < 12:
        return False
    gaps, duplicates = unpack_from("!HH", body, 8)
    if len(body) < 12 + 4 * (gaps + duplicates):
        return False
    last = 0
    for index in range(gaps):
        first, final = unpack_from("!HH", body, 12 + 4 * index)
        if first <= last or final < first or final > MAX_GAP_TSNS:
            return False  # RFC 9260 section 3.3.4: blocks ascend and do not touch
        last = final
    return True


def _parameters_are_safe(body: bytes, fixed: int) -> bool:
    if len(body) < fixed:
        return False
    position = fixed
    while position + 4 <= len(body):
        length = unpack_from("!H", body, position + 2)[0]
        if length < 4 or position + length > len(body):
            return False
        position += length + (-length & 3)
    return True
