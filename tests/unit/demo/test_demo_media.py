"""The simulated room's film: starts anywhere within half a second, decodes, and has no seam."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from server.demo import media
from server.demo.media import AUDIO_PACKETS, FRAMES, MediaError, MediaLoop

pytestmark = pytest.mark.timeout(400)  # five seconds of work, on an idle machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("film")


@pytest.fixture(scope="module")
def loop(folder: Path) -> MediaLoop:
    return media.prepare(folder)


def decode_video(packets: tuple[bytes, ...]) -> Iterator[np.ndarray]:
    """One picture at a time: all of them in memory at once are a gigabyte."""
    codec = av.CodecContext.create("vp8", "r")
    for packet in (*packets, None):
        for frame in codec.decode(None if packet is None else av.Packet(packet)):
            yield frame.to_ndarray(format="rgb24")


def decode_audio(packets: tuple[bytes, ...]) -> np.ndarray:
    codec = av.CodecContext.create("opus", "r")
    codec.sample_rate, codec.layout = 48_000, av.AudioLayout("stereo")
    sound = []
    for index, data in enumerate(packets):
        packet = av.Packet(data)
        packet.pts, packet.time_base = index * 960, Fraction(1, 48_000)
        sound += [frame.to_ndarray() for frame in codec.decode(packet)]
    return np.concatenate(sound, axis=1)


def test_a_key_frame_comes_at_least_once_a_second(loop: MediaLoop) -> None:
    entries = sorted(loop.key_frames)
    gaps = np.diff([*entries, FRAMES + entries[0]])
    assert entries[0] == 0
    assert gaps.max() <= 30
    # VP8: the lowest bit of the first byte is clear in a key frame (RFC 6386 section 9.1), and in no other.
    assert {i for i, packet in enumerate(loop.video) if not packet[0] & 1} == loop.key_frames


def test_the_bit_rate_is_that_of_a_camera(loop: MediaLoop) -> None:
    bits_per_s = sum(map(len, loop.video)) * 8 / media.SECONDS
    assert 1_000_000 < bits_per_s < 1_600_000


def test_the_picture_decodes_moves_and_is_marked(loop: MediaLoop) -> None:
    """[W9] SIMULATED is in every picture."""
    people = []
    for index, picture in enumerate(decode_video(loop.video)):
        assert picture.shape == (720, 1280, 3)
        mark = picture[24:30, 60:300].astype(int)
        assert np.abs(mark - (255, 176, 32)).mean() < 30
        if index % 10 == 0:
            people.append(picture[200:550, 380:1000].astype(np.int16))
    assert index + 1 == FRAMES
    assert all(np.abs(a - b).mean() > 0.5 for a, b in itertools.pairwise(people))


def test_the_last_picture_leads_into_the_first(loop: MediaLoop) -> None:
    above_counter = np.s_[:640:4, ::4, 1]  # below it, the counter jumps on purpose
    pictures = [picture[above_counter].astype(np.int16) for picture in decode_video(loop.video)]
    steps = [np.abs(a - b).mean() for a, b in itertools.pairwise(pictures)]
    seam = np.abs(pictures[-1] - pictures[0]).mean()
    assert seam <= 1.2 * max(steps)


def test_any_key_frame_is_a_way_in(loop: MediaLoop) -> None:
    entry = sorted(loop.key_frames)[7]
    assert len(list(decode_video(loop.video[entry : entry + 20]))) == 20


def test_the_sound_decodes_and_is_audible_but_calm(loop: MediaLoop) -> None:
    sound = decode_audio(loop.audio)
    assert sound.shape[1] == AUDIO_PACKETS * 960
    loudness_dbfs = 20 * np.log10(np.sqrt(np.mean(np.square(sound))))
    assert -45 < loudness_dbfs < -20
    assert np.abs(sound).max() < 0.5


def test_the_sound_goes_through_the_seam_without_a_click(loop: MediaLoop) -> None:
    rounds = decode_audio(loop.audio * 3)[0]
    steps = np.abs(np.diff(rounds))
    seam = AUDIO_PACKETS * 960 + 312  # plus the encoder's look-ahead
    assert steps[seam - 2_000 : seam + 2_000].max() <= 1.2 * steps.max()
    first, second = (rounds[n * 480_000 : (n + 1) * 480_000] for n in (1, 2))
    assert np.abs(first - second).max() < 0.02


def test_the_film_is_made_once(loop: MediaLoop, folder: Path) -> None:
    def never(_: float) -> None:
        raise AssertionError("made again")

    assert media.prepare(folder, never) == loop


def test_a_film_that_was_cut_short_is_not_played(loop: MediaLoop, folder: Path, tmp_path: Path) -> None:
    whole = next(folder.glob("*.webm"))
    damaged = tmp_path / whole.name
    damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError):
        media.load(damaged)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MediaError, match="cannot make"):
        media.prepare(tmp_path / "file" / "media")
