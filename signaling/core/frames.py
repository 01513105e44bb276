"""Socket.IO packets as msgpack maps: what a client may send us, and what we send. [WF1]-[WF5]

Every frame passes here before anything else looks at it. The
caps are far above what a client of ours ever sends; what exceeds them, or is not
a packet of a kind that clients send, is one `MalformedFrame` and nothing else.
"""

from dataclasses import dataclass
from typing import Any

import msgpack

MAX_FRAME_BYTES = 64 * 1024
"""A `produce` with simulcast is about 4 kB."""

MAX_ITEMS = 512
"""Entries of one array or map."""

MAX_DEPTH = 12
"""Nesting of arrays and maps; RTP parameters inside a command inside an event reach 7."""

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = range(5)


class MalformedFrame(ValueError):
    """Not a frame that a client sends. Raised for any bytes; nothing else is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A packet of the one namespace ``/``."""

    type: int
    data: Any = None
    id: int | None = None


def decode_frame(raw: object) -> Frame:
    """Check one message of the WebSocket.

    Args:
        raw: the message; text is refused, the wire is binary.

    Returns:
        A frame of type ``CONNECT`` (data: map or None), ``DISCONNECT`` or
        ``EVENT`` (data: ``[name, argument]`` with the name ``command``).

    Raises:
        MalformedFrame: anything else, whatever the bytes.
    """
    if not isinstance(raw, bytes):
        raise MalformedFrame("not binary")
    if len(raw) > MAX_FRAME_BYTES:
        raise MalformedFrame("too large")
    packet = _unpack(raw)
    if not isinstance(packet, dict):
        raise MalformedFrame("not a map")
    if packet.keys() - {"type", "nsp", "data", "id"}:
        raise MalformedFrame("unknown field")
    if packet.get("nsp") != "/":
        raise MalformedFrame("unknown namespace")
    _check_depth(packet)
    return _checked(packet.get("type"), packet.get("data"), packet.get("id"))


def encode_frame(frame: Frame) -> bytes:
    """One packet for the WebSocket. Binary stays binary; times are integers."""
    packet: dict[str, Any] = {"type": frame.type, "nsp": "/", "data": frame.data}
    if frame.id is not None:
        packet["id"] = frame.id
    return bytes(msgpack.packb(packet))


def encode_event(name: str, payload: Any) -> bytes:
    """A server-to-client event with one argument."""
    return encode_frame(Frame(EVENT, [name, payload]))


def decode_event(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Name and argument of what `encode_event` made."""
    name, payload = msgpack.unpackb(frame)["data"]
    return name, payload


def encode_ack(ack_id: int, payload: Any) -> bytes:
    """The acknowledgement of the event that carried ``ack_id``."""
    return encode_frame(Frame(ACK, [payload], ack_id))


def _unpack(raw: bytes) -> Any:
    try:
        return msgpack.unpackb(
            raw,
            strict_map_key=True,
            max_str_len=MAX_FRAME_BYTES,
            max_bin_len=MAX_FRAME_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
            ext_hook=_refuse_extension,
        )
    except MalformedFrame:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedFrame(type(error).__name__) from None


def _refuse_extension(code: int, data: bytes) -> Any:
    raise MalformedFrame("extension types are not used")


def _check_depth(packet: dict[str, Any]) -> None:
    level: list[Any] = [packet]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise MalformedFrame("nested too deeply")


def _checked(kind: object, data: object, ack_id: object) -> Frame:
    if isinstance(kind, bool) or not isinstance(kind, int):
        raise MalformedFrame("type is not a number")
    if kind == CONNECT and (data is None or isinstance(data, dict)):
        return Frame(CONNECT, data)
    if kind == DISCONNECT:
        return Frame(DISCONNECT)
    if kind == EVENT:
        return _checked_event(data, ack_id)
    raise MalformedFrame("a client does not send this type")


def _checked_event(data: object, ack_id: object) -> Frame:
    # A client asks by one event name only; every other name is not ours to dispatch.
    if not isinstance(data, list) or len(data) != 2 or data[0] != "command" or not isinstance(data[1], dict):
        raise MalformedFrame("not a command")
    if isinstance(ack_id, bool) or not isinstance(ack_id, int) or not 0 <= ack_id < 2**53:
        raise MalformedFrame("a command needs an acknowledgement id")
    return Frame(EVENT, data, ack_id)
