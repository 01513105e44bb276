"""The simulated partner room's picture and sound, encoded once and played in a loop.

A consult needs a camera; a demo on somebody's laptop has none to spare. So the
project draws a room (``scene``), encodes ten seconds of it at first run with
the codecs every client speaks (VP8 and Opus) and keeps the result in the data
folder as an ordinary WebM file. Sending it later costs no encoding at all.

The loop has no seam: picture and sound are periodic, every loop starts with a
key frame, and the Opus packets are taken from the middle of three repetitions,
so the decoder's state at the end of the loop is the one its start expects.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.audio import AudioStream
from av.video import VideoStream
from numpy.typing import NDArray

from server.demo.scene import HEIGHT, WIDTH, Scene

FPS = 30
SECONDS = 10
FRAMES = FPS * SECONDS
KEY_FRAME_EVERY = 15
"""Frames. A viewer waits for the next one before it sees anything: 0.5 s at most."""
WARM_UP = 2 * KEY_FRAME_EVERY
"""Frames encoded before the loop and thrown away: an encoder's first pictures are coarse."""
VIDEO_BPS = 1_350_000
AUDIO_RATE_HZ = 48_000
AUDIO_BPS = 48_000
OPUS_SAMPLES = 960
"""Samples per Opus packet: 20 ms."""
AUDIO_PACKETS = SECONDS * AUDIO_RATE_HZ // OPUS_SAMPLES

_FILE = f"partner-room-v3-{WIDTH}x{HEIGHT}.webm"
"""Change the version when the scene or the encoding changes: an older cache is then not used."""

Progress = Callable[[float], None]
"""Told how much is done, 0 to 1."""


class MediaError(Exception):
    """The loop can neither be read nor made; the text is for the person who started the demo."""


@dataclass(frozen=True)
class MediaLoop:
    """Encoded packets of one round: 300 VP8 frames and 500 Opus packets."""

    video: tuple[bytes, ...]
    audio: tuple[bytes, ...]
    key_frames: frozenset[int]
    """Indices into ``video`` where a decoder can start."""


def prepare(folder: Path, progress: Progress = lambda _: None) -> MediaLoop:
    """The loop from ``folder``, made first when it is not there yet.

    Raises:
        MediaError: the folder cannot be written, or PyAV lacks a codec.
    """
    path = folder / _FILE
    if path.exists():
        try:
            return load(path)
        except MediaError:
            pass  # cut short or of another making: make it again
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        make(unfinished, progress)
        unfinished.replace(path)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot make the simulated room's video in {folder}: {error}") from error
    return load(path)


def load(path: Path) -> MediaLoop:
    """Read a file that ``make`` wrote.

    Raises:
        MediaError: unreadable, or not a whole loop.
    """
    video: list[bytes] = []
    audio: list[bytes] = []
    key_frames: set[int] = set()
    try:
        with av.open(str(path)) as container:
            for packet in container.demux():
                if not packet.size:
                    continue
                if packet.stream.type == "video":
                    if packet.is_keyframe:
                        key_frames.add(len(video))
                    video.append(bytes(packet))
                else:
                    audio.append(bytes(packet))
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot read {path}: {error}") from error
    if len(video) != FRAMES or len(audio) != AUDIO_PACKETS or 0 not in key_frames:
        raise MediaError(f"{path} is not a whole loop: {len(video)} pictures, {len(audio)} sound packets")
    return MediaLoop(tuple(video), tuple(audio), frozenset(key_frames))


def make(path: Path, progress: Progress = lambda _: None) -> None:
    """Draw, encode and write one loop; some seconds of work."""
    with av.open(str(path), "w", format="webm") as container:
        video = container.add_stream("libvpx", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = VIDEO_BPS
        video.time_base = Fraction(1, FPS)
        video.gop_size = KEY_FRAME_EVERY
        video.options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "keyint_min": str(KEY_FRAME_EVERY),
            "minrate": str(VIDEO_BPS),
            "maxrate": str(VIDEO_BPS),
            "bufsize": str(VIDEO_BPS // 2),
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "error-resilient": "1",
        }
        audio = container.add_stream("libopus", rate=AUDIO_RATE_HZ, layout="stereo")
        audio.bit_rate = AUDIO_BPS
        audio.time_base = Fraction(1, AUDIO_RATE_HZ)
        for packet in _opus():
            packet.stream = audio
            container.mux(packet)
        scene = Scene(FRAMES, FPS)
        for index in range(-WARM_UP, FRAMES):
            frame = av.VideoFrame.from_ndarray(scene.frame(index % FRAMES), format="rgb24").reformat(format="yuv420p")
            scene.add_grain(_luma(frame), index % FRAMES)
            frame.pts, frame.time_base = WARM_UP + index, Fraction(1, FPS)
            container.mux(_after_warm_up(video.encode(frame)))
            progress((WARM_UP + index + 1) / (WARM_UP + FRAMES))
        container.mux(_after_warm_up(video.encode(None)))


def _luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The Y plane of a picture, to be written into."""
    plane = frame.planes[0]
    whole: NDArray[np.uint8] = np.frombuffer(memoryview(cast(Any, plane)), np.uint8).reshape(-1, plane.line_size)
    return whole[: frame.height, : frame.width]


def _after_warm_up(packets: "list[av.Packet[VideoStream]]") -> "list[av.Packet[VideoStream]]":
    """Without the pictures that only settled the encoder; the first one kept is numbered 0."""
    kept = []
    for packet in packets:
        assert packet.pts is not None, "the encoder numbers its packets"
        if packet.pts >= WARM_UP:
            packet.pts = packet.dts = packet.pts - WARM_UP
            kept.append(packet)
    return kept


def room_tone() -> NDArray[np.int16]:
    """One loop of sound, int16, shape (480000,): ventilation murmur, and a soft two-note chime every 2.5 s.

    Made in the frequency domain, so that it is periodic in the loop by construction.
    """
    count = SECONDS * AUDIO_RATE_HZ
    rng = np.random.default_rng(7)
    frequency_hz = np.fft.rfftfreq(count, 1 / AUDIO_RATE_HZ)
    shape = np.exp(-frequency_hz / 350) * (frequency_hz > 40)
    murmur = np.fft.irfft(shape * np.exp(2j * np.pi * rng.random(frequency_hz.size)), count)
    tone = 0.012 * murmur / murmur.std()
    seconds = np.arange(2 * AUDIO_RATE_HZ) / AUDIO_RATE_HZ
    for start, pitch_hz in ((0.25, 523.25), (0.55, 659.25)):
        note = np.sin(2 * np.pi * pitch_hz * seconds) * np.exp(-3.2 * seconds) * np.minimum(1, seconds / 0.02)
        for repeat in range(4):
            at = int((start + 2.5 * repeat) * AUDIO_RATE_HZ)
            tone[(at + np.arange(note.size)) % count] += 0.10 * note
    return cast(NDArray[np.int16], np.rint(tone * 32767).astype(np.int16))


def _opus() -> "Iterator[av.Packet[AudioStream]]":
    """Packets of the middle one of three rounds, numbered from 0."""
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.bit_rate = AUDIO_RATE_HZ, AUDIO_BPS
    codec.layout, codec.format = av.AudioLayout("stereo"), av.AudioFormat("s16")
    codec.time_base = Fraction(1, AUDIO_RATE_HZ)
    codec.options = {"application": "audio", "frame_duration": "20"}
    sound = np.repeat(np.tile(room_tone(), 3), 2)[None, :]
    packets: list[av.Packet[AudioStream]] = []
    for start in range(0, sound.shape[1], 2 * OPUS_SAMPLES):
        frame = av.AudioFrame.from_ndarray(sound[:, start : start + 2 * OPUS_SAMPLES], format="s16", layout="stereo")
        frame.sample_rate, frame.pts = AUDIO_RATE_HZ, start // 2
        packets += codec.encode(frame)
    for index, packet in enumerate(packets[AUDIO_PACKETS : 2 * AUDIO_PACKETS]):
        packet.pts = packet.dts = index * OPUS_SAMPLES
        packet.duration = OPUS_SAMPLES
        packet.time_base = Fraction(1, AUDIO_RATE_HZ)
        yield packet
