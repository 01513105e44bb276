"""The relay's part: what it passes on, what it refuses, how it repairs."""

from typing import Any

import msgpack
import numpy as np
import pytest

from media.core.waveform import Flag, FrameWriter, StreamFormat, StreamInUse, WaveformHub, peek_stream_id, split_message
from media.core.waveform.frame import build_frame, with_flags
from media.core.waveform.hub import MAX_MESSAGE_BYTES

BLOCK = np.arange(100, dtype=np.int16).reshape(2, 50)
FRAME_US = 100_000


def writer(stream_id: int = 5, *, simulated: bool = True) -> FrameWriter:
    return FrameWriter(
        StreamFormat(stream_id=stream_id, leads=2, sample_rate_mhz=500_000, lsb_nv=1000, simulated=simulated)
    )


def messages(count: int, source: FrameWriter | None = None) -> list[bytes]:
    source = source or writer()
    return [source.write(BLOCK, t0_us=source.seq * FRAME_US, context_version=1) for _ in range(count)]


def fed(count: int, *, without: tuple[int, ...] = ()) -> WaveformHub:
    hub = WaveformHub()
    hub.open_stream(5, True)
    for i, message in enumerate(messages(count)):
        if i not in without:
            assert hub.accept(5, message, i * FRAME_US) == message
    return hub


def ask(hub: WaveformHub, now_us: int = 0, viewer: str = "v", **request: Any) -> list[tuple[str, Any]]:
    replies = hub.control(viewer, msgpack.packb(request), now_us)
    return [
        (channel, msgpack.unpackb(data) if channel == "ctl" else split_message(data)[0].seq)
        for channel, data in replies
    ]


def test_passes_on_the_bytes_it_got() -> None:
    """[WF10] [W10] Unchanged, and never decoded."""
    hub = fed(3)
    assert hub.counters["frames"] == 3
    assert hub.lost_frames(5) == 0


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("malformed", b"EC"),
        ("malformed", b""),
        ("oversize", bytes(MAX_MESSAGE_BYTES + 1)),
        ("wrong_stream", messages(1, writer(6))[0]),
        ("simulated_flag", messages(1, writer(simulated=False))[0]),
    ],
)
def test_refuses_and_counts(reason: str, message: bytes) -> None:
    """[WF10] [W9] Nothing refused is kept or passed on."""
    hub = fed(0)
    assert hub.accept(5, message, 0) is None
    assert hub.counters == {f"refused_{reason}": 1}
    assert ask(hub, t="have", stream=5, seq=0) == []


def test_a_simulated_wave_cannot_enter_a_real_stream() -> None:
    """[W9] Flag 8 must be set exactly if the stream was announced so; the appended frame is held to it too."""
    hub = WaveformHub()
    hub.open_stream(5, False)
    assert hub.accept(5, messages(1)[0], 0) is None
    real = writer(simulated=False)
    frame = real.write(BLOCK, t0_us=0, context_version=1)
    second = split_message(real.write(BLOCK, t0_us=FRAME_US, context_version=1))[0].encoded
    smuggled = with_flags(second, add=Flag.REDUNDANT) + with_flags(frame, add=Flag.SIMULATED)
    assert hub.accept(5, smuggled, 0) is None
    assert hub.counters == {"refused_simulated_flag": 2}


def test_a_frame_of_another_context_than_its_streams_is_refused() -> None:
    """[W19] [W20] [W24] The patient before, or one who is not open yet: not passed on, not kept, counted."""
    hub, source = WaveformHub(), writer()
    hub.open_stream(5, True, context_version=3)
    for version, taken in ((2, False), (4, False), (3, True)):
        message = source.write(BLOCK, t0_us=source.seq * FRAME_US, context_version=version)
        assert (hub.accept(5, message, 0) is not None) is taken
        assert bool(hub.fresh) is taken
    assert hub.counters["refused_context"] == 2


def test_at_a_switch_of_patients_nothing_of_the_old_goes_with_the_new_and_nothing_of_the_new_is_lost() -> None:
    """[W20] [W24] The frame before is not appended; where a source appends it all the same it is taken off."""
    source = writer()
    old = split_message(source.write(BLOCK, t0_us=0, context_version=3))[0].encoded
    message = source.write(BLOCK, t0_us=FRAME_US, context_version=4)
    new, before = split_message(message)
    assert before is None
    hub = WaveformHub()
    hub.open_stream(5, True, context_version=4)
    assert hub.accept(5, with_flags(new.encoded, add=Flag.REDUNDANT) + old, 0) == new.encoded
    assert hub.fresh == [new.encoded]
    assert hub.counters["refused_context"] == 1
    assert ask(hub, t="nack", stream=5, first=0, last=1) == [("ecg", 1)]


def test_closed_and_taken_streams() -> None:
    """A stream id belongs to one open source."""
    hub = fed(1)
    with pytest.raises(StreamInUse):
        hub.open_stream(5, True)
    hub.close_stream(5)
    hub.close_stream(5)
    assert hub.accept(5, messages(1)[0], 0) is None
    hub.open_stream(5, True)
    assert ask(hub, t="nack", stream=5, first=0, last=0) == []


def test_ping_is_answered_with_server_time() -> None:
    """The viewer's own number comes back with the server's microseconds."""
    assert ask(fed(0), now_us=123, t="ping", c=-5) == [("ctl", {"t": "pong", "c": -5, "s": 123})]


def test_nack_resends_what_is_kept_and_names_what_is_gone() -> None:
    """[WF10] Frame 3 and 4 never reached the relay; 4 came with 5, so only 3 is gone."""
    hub = fed(10, without=(3, 4))
    assert ask(hub, t="nack", stream=5, first=2, last=5) == [
        ("ecg", 2), ("ctl", {"t": "gone", "stream": 5, "first": 3, "last": 3}), ("ecg", 4), ("ecg", 5),
    ]  # fmt: skip
    assert hub.counters["repaired"] == 1
    assert hub.lost_frames(5) == 1


def test_resent_frames_are_marked_and_stand_alone() -> None:
    """Flag 2, nothing appended, the right stream."""
    channel, data = fed(4).control("v", msgpack.packb({"t": "nack", "stream": 5, "first": 2, "last": 2}), 0)[0]
    assert channel == "ecg"
    assert data[3] & (Flag.RESEND | Flag.REDUNDANT) == Flag.RESEND
    assert peek_stream_id(data) == 5


def test_the_newest_frames_are_not_called_gone() -> None:
    """They may still come in out of order."""
    hub = fed(9)
    assert ask(hub, t="nack", stream=5, first=8, last=12) == [("ecg", 8)]


def test_have_brings_everything_since_oldest_first() -> None:
    """After a reconnect a viewer names the last frame it has."""
    assert ask(fed(6), t="have", stream=5, seq=2) == [("ecg", 3), ("ecg", 4), ("ecg", 5)]
    assert ask(fed(6), t="have", stream=5, seq=5) == []


def test_ring_forgets_after_thirty_seconds() -> None:
    """30 s of 100 ms frames are kept, older ones are gone."""
    hub = fed(400)
    replies = ask(hub, now_us=400 * FRAME_US, t="have", stream=5, seq=50)
    assert replies[0] == ("ctl", {"t": "gone", "stream": 5, "first": 51, "last": 98})
    assert [seq for channel, seq in replies if channel == "ecg"] == list(range(99, 400))


def test_device_that_counts_anew_clears_the_ring() -> None:
    """[W5] Frame 1 of yesterday's numbering must not repair today's."""
    hub = fed(20)
    again = writer()
    for i in range(3):
        frame = again.write(BLOCK + 1, t0_us=10_000_000 + i * FRAME_US, context_version=1)
        assert hub.accept(5, frame, 10_000_000 + i * FRAME_US) == frame
    assert ask(hub, t="have", stream=5, seq=0) == [("ecg", 1), ("ecg", 2)]
    assert ask(hub, t="nack", stream=5, first=10, last=10) == []


@pytest.mark.parametrize(
    "request_",
    [
        {}, [], 7, None, {"t": "ping"}, {"t": "ping", "c": "1"}, {"t": "ping", "c": True}, {"t": "ping", "c": 2**63},
        {"t": "nack", "stream": 5, "first": 2, "last": 1}, {"t": "nack", "stream": 5, "first": 0, "last": 2**32 - 1},
        {"t": "nack", "stream": 5, "first": -1, "last": 1}, {"t": "nack", "stream": 99, "first": 1, "last": 1},
        {"t": "have", "stream": 5}, {"t": "have", "stream": 5, "seq": 1.5}, {"t": ["nack"]}, {"x": "y" * 600},
    ],
)  # fmt: skip
def test_malformed_control_is_counted_and_unanswered(request_: object) -> None:
    """Nothing a viewer sends raises."""
    hub = fed(3)
    assert hub.control("v", msgpack.packb(request_), 0) == []
    assert sum(count for name, count in hub.counters.items() if name.startswith("refused_control")) == 1


def test_work_per_viewer_is_bounded() -> None:
    """One viewer that asks for everything all the time costs a bounded number of frames, and nobody else's."""
    hub = fed(300)
    now_us = 300 * FRAME_US
    greedy = [reply for _ in range(500) for reply in ask(hub, now_us, "greedy", t="nack", stream=5, first=0, last=299)]
    assert len(greedy) == 700
    assert hub.counters["refused_control_rate"] == 420
    assert len(ask(hub, now_us, "modest", t="nack", stream=5, first=10, last=19)) == 10
    assert len(ask(hub, now_us + 1_000_000, "greedy", t="nack", stream=5, first=0, last=299)) == 200


def test_stale_numbers_of_another_stream_stay_apart() -> None:
    """Two devices in one consult do not see each other's rings."""
    hub = fed(3)
    hub.open_stream(6, True)
    frame = build_frame(
        stream_id=6, seq=0, context_version=1, t0_us=0, first_sample=0, sample_rate_mhz=125_000,
        samples=BLOCK, flags=Flag.SIMULATED,
    )  # fmt: skip
    assert hub.accept(6, frame, 0) == frame
    assert ask(hub, t="nack", stream=6, first=0, last=2) == [("ecg", 0)]


def holes(hub: WaveformHub, now_us: int) -> list[tuple[int, int]]:
    """What the relay asks the source for now."""
    asked = [msgpack.unpackb(message) for message in hub.ask_source(5, now_us)]
    assert all((one["t"], one["stream"]) == ("nack", 5) for one in asked)
    return [(one["first"], one["last"]) for one in asked]


def test_a_source_is_asked_for_what_its_appended_frames_did_not_mend() -> None:
    """[WF18] At once; one lost message is mended by the next and asks for nothing."""
    assert not fed(12, without=(4, 8)).awaits_source(5)
    hub = fed(12, without=(3, 4, 5, 9, 10))
    assert holes(hub, 1_200_000) == [(3, 4), (9, 9)]
    assert holes(hub, 1_250_000) == [], "the answer is on its way"
    again = messages(12)
    assert hub.accept(5, with_flags(split_message(again[3])[0].encoded, add=Flag.RESEND), 1_260_000) is not None
    assert [split_message(frame)[0].seq for frame in hub.fresh] == [3]
    assert holes(hub, 1_600_000) == [(4, 4), (9, 9)]


def test_what_a_source_is_asked_for_is_not_gone_until_it_was_asked_in_vain() -> None:
    """[WF18] A viewer that asks meanwhile hears nothing and asks again; asking ends after some ten seconds."""
    hub = fed(12, without=(3, 4, 5))
    assert ("ctl", {"t": "gone", "stream": 5, "first": 3, "last": 4}) in ask(hub, t="nack", stream=5, first=2, last=6)
    assert holes(hub, 1_200_000) == [(3, 4)]
    assert ask(hub, t="nack", stream=5, first=2, last=6) == [("ecg", 2), ("ecg", 5), ("ecg", 6)]
    assert [seq for seq, _ in hub.kept(5, 2, 6)] == [2, 5, 6]
    times = [now_us for now_us in range(1_200_000, 20_000_000, 20_000) if holes(hub, now_us)]
    assert 5 <= len(times) < 10
    assert times[-1] < 12_000_000
    assert not hub.awaits_source(5)
    assert ("ctl", {"t": "gone", "stream": 5, "first": 3, "last": 4}) in ask(hub, t="nack", stream=5, first=2, last=6)


def test_only_what_a_ring_of_thirty_seconds_has_is_asked_for_and_not_too_often() -> None:
    """[WF18] Two minutes without a frame: the newest 30 s of it; whatever a source numbers, the work is bounded."""
    hub = fed(1)
    later = FrameWriter(writer().stream, first_seq=1201)
    assert hub.accept(5, messages(1, later)[0], 120_000_000) is not None
    assert holes(hub, 120_000_000) == [(901, 1200)]
    wild = fed(3000, without=tuple(n for n in range(3000) if n % 3))
    asked = [one for now_us in range(300_000_000, 301_000_000, 20_000) for one in holes(wild, now_us)]
    assert 30 <= len(asked) <= 60
    assert sum(last - first + 1 for first, last in asked) <= 900


def test_a_source_whose_answers_take_long_is_asked_again_later() -> None:
    """[WF18] Round trips of 600 ms: no second request for what is on its way."""
    hub, source = WaveformHub(), writer()
    hub.open_stream(5, True)
    sent = messages(200, source)
    due: list[tuple[int, int]] = []
    asked: list[tuple[int, int, int]] = []
    for n in range(200):
        now_us = n * FRAME_US
        if n % 10 not in (3, 4, 5):
            hub.accept(5, sent[n], now_us)
        for at_us, seq in [one for one in due if one[0] <= now_us]:
            hub.accept(5, with_flags(split_message(sent[seq])[0].encoded, add=Flag.RESEND), now_us)
            due.remove((at_us, seq))
        for first, last in holes(hub, now_us):
            asked.append((now_us, first, last))
            due += [(now_us + 600_000, seq) for seq in range(first, last + 1)]
    late = [one for one in asked if one[0] > 10_000_000]
    assert len({(first, last) for _, first, last in late}) == len(late), "once each, when the round trip is known"
    assert late


def test_a_device_that_counts_anew_is_not_asked_for_its_old_numbers() -> None:
    """[WF18] [W5]"""
    hub = fed(12, without=(3, 4, 5))
    anew = writer()
    hub.accept(5, anew.write(BLOCK, t0_us=60_000_000, context_version=1), 60_000_000)
    assert not hub.awaits_source(5)
