"""Any bytes at all may arrive on the socket."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from signaling.core.frames import EVENT, Frame, MalformedFrame, decode_frame, encode_ack, encode_event

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_frame_or_malformed(raw: bytes) -> None:
    """[WF1] Nothing else is ever raised."""
    _decode(raw)


@given(
    st.dictionaries(st.sampled_from(["type", "nsp", "data", "id", "x"]), values)
    | st.fixed_dictionaries({"type": st.integers(-1, 7), "nsp": st.just("/"), "data": values, "id": values})
)
def test_random_maps_are_a_frame_or_malformed(packet: dict[str, Any]) -> None:
    """[WF1] [WF2] What passes is a connect, a disconnect, or a command with an id."""
    frame = _decode(msgpack.packb(packet))
    if frame is not None and frame.type == EVENT:
        assert frame.data[0] == "command"
        assert isinstance(frame.data[1], dict)
        assert isinstance(frame.id, int)


@given(
    st.dictionaries(st.text(), st.text() | st.binary(max_size=50) | st.integers(0, 2**53)), st.integers(0, 2**53 - 1)
)
def test_a_command_arrives_as_it_was_sent(command: dict[str, Any], ack_id: int) -> None:
    """[WF1] Bytes stay bytes, integers exact."""
    raw = msgpack.packb({"type": 2, "nsp": "/", "data": ["command", command], "id": ack_id})
    assert decode_frame(raw) == Frame(EVENT, ["command", command], ack_id)


def test_what_we_send_is_what_clients_expect() -> None:
    """The packet maps, literally."""
    assert msgpack.unpackb(encode_event("event", {"a": 1})) == {"type": 2, "nsp": "/", "data": ["event", {"a": 1}]}
    assert msgpack.unpackb(encode_ack(7, {"ok": True})) == {"type": 3, "nsp": "/", "data": [{"ok": True}], "id": 7}


def _decode(raw: bytes) -> Frame | None:
    try:
        return decode_frame(raw)
    except MalformedFrame:
        return None
