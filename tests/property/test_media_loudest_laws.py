"""Loudest voices: never more than there are places, and no word cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from media.core.loudest import KEEP_US, LEAST_US, SPEECH_PACKETS, LoudestVoices

PACKET_US = 20_000
QUIET, NORMAL, LOUD = 127, 30, 15
PLACES = 3
"""-dBov."""

rooms = st.lists(st.lists(st.sampled_from([QUIET, 70, 45, NORMAL, LOUD]), min_size=5, max_size=5), max_size=60)


def room(count: int) -> LoudestVoices[int]:
    voices: LoudestVoices[int] = LoudestVoices(PLACES)
    for key in range(count):
        voices.add(key)
    return voices


@given(rooms)
def test_forwarded_are_those_with_a_place_and_never_too_many(levels: list[list[int]]) -> None:
    voices = room(5)
    for step, row in enumerate(levels):
        for key, level in enumerate(row):
            went = voices.forwards(key, level, step * PACKET_US * 5)
            assert went == (key in voices.placed)
        assert len(set(voices.placed)) == PLACES


@given(rooms, st.integers(0, 4))
def test_speech_after_silence_is_forwarded_from_its_second_packet(levels: list[list[int]], key: int) -> None:
    """When a place is with somebody who has been silent long enough."""
    voices = room(5)
    now_us = 0
    for row in levels:
        for other, level in enumerate(row):
            voices.forwards(other, level, now_us)
        now_us += PACKET_US
    now_us += KEEP_US
    went = [voices.forwards(key, NORMAL, now_us + index * PACKET_US) for index in range(SPEECH_PACKETS + 3)]
    assert all(went[SPEECH_PACKETS - 1 :])


@given(rooms, st.integers(1, 2_000_000 // PACKET_US - 1))
def test_a_pause_between_words_costs_no_place(others: list[list[int]], pause: int) -> None:
    """The loudest speaker goes silent for less than `KEEP_US`; whatever the others do, it is heard again at once."""
    voices = room(5)
    now_us = 0
    for _ in range(100):  # everybody who gets a place has it, and the first is the loudest
        for key in range(4):
            voices.forwards(key, LOUD if key == 0 else NORMAL, now_us)
        now_us += PACKET_US
    assert 0 in voices.placed
    for index in range(pause):
        row = others[index % len(others)] if others else [NORMAL] * 5
        voices.forwards(0, QUIET, now_us)
        for key in range(1, 5):
            voices.forwards(key, max(NORMAL, row[key]), now_us)
        now_us += PACKET_US
    assert voices.forwards(0, LOUD, now_us)


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from([QUIET, NORMAL, LOUD]), min_size=6, max_size=6), min_size=60, max_size=120))
def test_a_place_lasts(levels: list[list[int]]) -> None:
    voices = room(6)
    placed_at = dict.fromkeys(voices.placed, -LEAST_US)
    for step, row in enumerate(levels):
        now_us = step * PACKET_US
        for key, level in enumerate(row):
            before = set(voices.placed)
            voices.forwards(key, level, now_us)
            for lost in before - set(voices.placed):
                assert now_us - placed_at[lost] >= LEAST_US
            for won in set(voices.placed) - before:
                placed_at[won] = now_us


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60))
def test_places_are_taken_while_there_is_somebody(steps: list[tuple[bool, int]]) -> None:
    voices: LoudestVoices[int] = LoudestVoices(PLACES)
    there: set[int] = set()
    for add, key in steps:
        (voices.add if add else voices.remove)(key)
        (there.add if add else there.discard)(key)
        assert set(voices.placed) <= there
        assert len(voices.placed) == min(PLACES, len(there))
        assert voices.choosing == (len(there) > PLACES)
        if not voices.choosing:
            assert all(voices.forwards(other, QUIET, 0) for other in there)
