"""Laws of the bytes: exact both ways for any signal, one error for any rubbish."""

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from media.core.waveform import MalformedFrame, WaveformHub, build_frame, parse_frame, split_message, with_flags
from media.core.waveform.frame import HEADER_BYTES

blocks = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 15), st.integers(1, 80)),
    elements=st.one_of(st.integers(-3, 3), st.integers(-32768, 32767), st.sampled_from([-32768, 0, 32767])),
)


def built(samples: np.ndarray, seq: int = 1) -> bytes:
    return build_frame(
        stream_id=1, seq=seq, context_version=1, t0_us=10, first_sample=0, sample_rate_mhz=500_000, samples=samples
    )


@settings(max_examples=300, deadline=None)
@given(blocks)
def test_any_signal_comes_back_exactly(samples: np.ndarray) -> None:
    """[W10] Lossless for every int16, and never larger than plain int16."""
    frame = built(samples)
    assert np.array_equal(parse_frame(frame).samples, samples)
    assert len(frame) <= HEADER_BYTES + 2 * samples.size


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_rubbish_raises_only_malformed_frame(data: bytes) -> None:
    """Whatever the bytes."""
    for attempt in (data, b"EC\x20" + data, b"EC\x21" + data):
        with contextlib.suppress(MalformedFrame):
            split_message(attempt)


@settings(max_examples=500, deadline=None)
@given(blocks, st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_under_a_fitting_crc_raises_only_malformed_frame(
    samples: np.ndarray, changes: list[tuple[int, int]]
) -> None:
    """A hostile source can make the CRC fit; decoding must still end in samples or in MalformedFrame."""
    data = bytearray(built(samples))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        frame = parse_frame(with_flags(bytes(data)))
        assert frame.samples.shape == (len(frame.leads), frame.n)
        assert frame.valid.shape == frame.samples.shape
    except MalformedFrame:
        return


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=64), max_size=10))
def test_control_never_raises(junk: list[bytes]) -> None:
    """Nothing a viewer sends raises, and rubbish gets no answer."""
    hub = WaveformHub()
    for message in junk:
        assert hub.control("v", message, 0) == [] or message[:1] >= b"\x80"
