"""Dependency descriptors as a browser sent them, and what a lane makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.dependency import DependencyReader, Indication, MalformedDescriptor
from media.core.shape import described, is_entrance, takes

L3T3_KEY = (
    "c00001c0081485214eaaaaa8000600004000100002aa80a8000600004000100002a000a800060000400016d549241b5524906d54923157e0"
    "01974ca864330e222396eca8655304224390eca87753013f00b3027f016704ff02cf1f80"
)
"""AV1, three sizes that depend on each other in key frames only; recorded from Chromium 156."""
L2T3 = "c10001c00514853abfaaa18f04304302a02a006001001b934515e082704608c0c787004321651111543276813f80b3827f81678e"
"""VP9, two sizes, the larger always built on the smaller; recorded from Chromium 156."""


def read(reader: DependencyReader, *packets: str) -> list[tuple[int, int]]:
    found = [reader.parse(bytes.fromhex(packet)) for packet in packets]
    return [(one.spatial, one.temporal) for one in found]


def test_structure_of_three_sizes_and_three_rates() -> None:
    reader = DependencyReader()
    key = reader.parse(bytes.fromhex(L3T3_KEY))

    assert key.first
    assert key.last
    assert key.key
    assert key.frame_number == 1
    assert reader.structure is not None
    assert reader.structure.resolutions == ((320, 180), (640, 360), (1280, 720))
    assert reader.structure.targets == tuple((spatial, temporal) for spatial in range(3) for temporal in range(3))
    assert set(key.indications) == {Indication.SWITCH}


def test_packets_name_their_layers_by_template() -> None:
    reader = DependencyReader()
    read(reader, L2T3)

    assert read(reader, "c300061a001800", "c60008", "88000a", "c2000b", "c4000d") == [
        (0, 2),
        (1, 0),
        (1, 2),
        (0, 1),
        (0, 2),
    ]


def test_first_and_last_packets_of_a_frame() -> None:
    reader = DependencyReader()
    reader.parse(bytes.fromhex(L2T3))
    marks = [reader.parse(bytes.fromhex(packet)) for packet in ("88000a", "08000a", "48000a")]

    assert [(mark.first, mark.last) for mark in marks] == [(True, False), (False, False), (False, True)]


def test_a_small_lane_of_independent_sizes_needs_the_small_frames_only() -> None:
    """[LA3] L3T3_KEY: beyond the key frame the largest size does not need the smaller ones."""
    reader = DependencyReader()
    reader.parse(bytes.fromhex(L3T3_KEY))
    small = described(reader.parse(bytes.fromhex("c10011")), None)
    large = described(reader.parse(bytes.fromhex("cb0012")), None)

    assert (small.spatial, small.temporal) == (0, 0)
    assert (large.spatial, large.temporal) == (2, 0)
    assert takes(small, 0, 7)
    assert not takes(small, 2, 7)
    assert takes(large, 2, 0)
    assert not takes(large, 0, 7)


def test_a_large_lane_of_nested_sizes_needs_all_that_it_is_built_on() -> None:
    """[LA3] L2T3."""
    reader = DependencyReader()
    reader.parse(bytes.fromhex(L2T3))
    small = described(reader.parse(bytes.fromhex("c00009")), None)

    assert takes(small, 0, 0)
    assert takes(small, 1, 2)


def test_a_lane_is_entered_where_the_encoder_says_so() -> None:
    """[LA3] At key frames, and for who follows the stream already at frames marked as switch points."""
    reader = DependencyReader()
    key = described(reader.parse(bytes.fromhex(L3T3_KEY)), None)
    delta = described(reader.parse(bytes.fromhex("c10011")), None)

    assert is_entrance(key, 0, 7, None)
    assert is_entrance(delta, 0, 2, 0)
    assert not is_entrance(delta, 0, 2, None)
    assert not is_entrance(delta, 2, 2, 0)


def test_simulcast_layers_with_descriptors_keep_their_place() -> None:
    reader = DependencyReader()
    shape = described(reader.parse(bytes.fromhex(L3T3_KEY)), 1)

    assert shape.spatial == 1
    assert takes(shape, 1, 7)


@pytest.mark.parametrize("data", ["", "c1", "c100", "c10001", "c50002ff", L2T3[:-20], L3T3_KEY[:60]])
def test_what_cannot_be_read_is_refused_and_changes_nothing(data: str) -> None:
    reader = DependencyReader()
    with pytest.raises(MalformedDescriptor):
        reader.parse(bytes.fromhex(data))
    assert reader.structure is None


def test_a_template_that_is_not_known_is_refused() -> None:
    reader = DependencyReader()
    reader.parse(bytes.fromhex(L2T3))
    with pytest.raises(MalformedDescriptor):
        reader.parse(bytes.fromhex("ff0006"))
    assert read(reader, "c60008") == [(1, 0)]


@given(st.binary(max_size=80), st.booleans())
def test_whatever_the_bytes_nothing_but_a_typed_error(data: bytes, known: bool) -> None:
    reader = DependencyReader()
    if known:
        reader.parse(bytes.fromhex(L3T3_KEY))
    try:
        found = reader.parse(data)
    except MalformedDescriptor:
        return
    assert found.spatial <= 3
    assert found.temporal <= 7


@given(st.lists(st.tuples(st.integers(0, len(L3T3_KEY) * 4 - 1)), max_size=4))
def test_a_damaged_structure_is_refused_or_read_whole(flips: list[tuple[int]]) -> None:
    data = bytearray(bytes.fromhex(L3T3_KEY))
    for (bit,) in flips:
        data[bit // 8] ^= 1 << bit % 8
    reader = DependencyReader()
    try:
        found = reader.parse(bytes(data))
    except MalformedDescriptor:
        assert reader.structure is None
        return
    assert len(found.indications) == len(found.targets)
