"""The control protocol: framing in any pieces, refusals with stable codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import control
from media.core.control import FRAME_LIMIT_BYTES, FrameReader, MalformedFrame, MediaError, MediaErrorCode, build_frame

maps = st.dictionaries(
    st.text(max_size=8), st.integers() | st.text(max_size=20) | st.booleans() | st.none(), max_size=5
)


@given(
    st.lists(maps.filter(lambda m: all(not isinstance(v, int) or abs(v) < 2**63 for v in m.values())), max_size=6),
    st.data(),
)
def test_frames_survive_any_cutting(values: list[dict[str, object]], data: st.DataObject) -> None:
    """[MC1] A stream cut anywhere gives the same maps in the same order."""
    stream = b"".join(build_frame(value) for value in values)
    reader = FrameReader()
    got = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += list(reader.feed(stream[:size]))
        stream = stream[size:]

    assert got == values


@pytest.mark.parametrize(
    "stream",
    [
        (FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\1\x07",
        b"\0\0\0\2\x92\x01",
        b"\0\0\0\3\x81\x01\x02",
    ],
)
def test_a_broken_stream_ends(stream: bytes) -> None:
    with pytest.raises(MalformedFrame):
        list(FrameReader().feed(stream))


@pytest.mark.parametrize(
    "call",
    [
        None,
        7,
        {},
        {"method": "no_such"},
        {"method": "open_router"},
        {"method": "open_router", "router": ""},
        {"method": "open_router", "router": "r", "more": 1},
        {"method": "create_transport", "router": "r", "transport": "t", "owner": "o", "direction": "both"},
        {
            "method": "produce_data",
            "transport": "t",
            "data_producer": "d",
            "sctp_stream_parameters": {},
            "waveform": {"stream_id": -1, "simulated": True},
        },
    ],
)
def test_a_wrong_call_is_bad_parameters(call: object) -> None:
    with pytest.raises(MediaError) as refused:
        control.parse_request(call)
    assert refused.value.code is MediaErrorCode.BAD_PARAMETERS


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    """Error texts reach logs; what clients send may hold names."""
    with pytest.raises(MediaError) as refused:
        control.parse_request({"method": "open_router", "router": {"secret": "Zhang San"}})
    assert "Zhang" not in refused.value.text


def test_every_request_reads_back_as_itself() -> None:
    request = control.ProduceData(
        transport="t",
        data_producer="d",
        label="ecg",
        sctp_stream_parameters={"streamId": 1},
        waveform=control.WaveformSource(stream_id=1, simulated=True),
    )

    assert control.parse_request(request.model_dump(exclude_none=True)) == request


def test_an_unknown_notification_breaks_the_line() -> None:
    with pytest.raises(MalformedFrame):
        control.parse_notification({"event": "surprise"})
