"""Active speaker: louder wins, but not at once, and silence is nobody (RFC 6464 levels)."""

from media.core.speaker import HOLD_US, SILENCE_US, AudioLevel, SpeakerDetector

STEP_US = 200_000
SPEECH = 25  # -25 dBov
ROOM = 70


class Stage:
    """Feeds levels in steps, as the packet path would."""

    def __init__(self, *names: str) -> None:
        self.detector: SpeakerDetector[str] = SpeakerDetector()
        self.levels: dict[str, AudioLevel] = {name: self.detector.add(name) for name in names}
        self.now_us = 1_000_000_000
        self.changes: list[str | None] = []

    def play(self, duration_us: int, **dbov: int) -> None:
        for _ in range(duration_us // STEP_US):
            self.now_us += STEP_US
            for name, level in dbov.items():
                for _packet in range(10):
                    self.levels[name].add(0x80 | level)
            if self.detector.update(self.now_us):
                self.changes.append(self.detector.active)


def test_a_quiet_room_has_no_speaker() -> None:
    stage = Stage("a", "b")
    stage.play(5_000_000, a=ROOM, b=ROOM + 5)
    assert stage.changes == []
    assert stage.detector.active is None


def test_who_speaks_becomes_active_and_stays_through_a_breath() -> None:
    stage = Stage("a", "b")
    stage.play(2_000_000, a=SPEECH, b=ROOM)
    stage.play(1_000_000, a=ROOM, b=ROOM)
    stage.play(1_000_000, a=SPEECH, b=ROOM)
    assert stage.changes == ["a"]


def test_silence_ends_the_speaker() -> None:
    stage = Stage("a")
    stage.play(2_000_000, a=SPEECH)
    stage.play(SILENCE_US * 2, a=ROOM)
    assert stage.changes == ["a", None]


def test_no_packets_at_all_is_silence() -> None:
    """A muted microphone or DTX sends nothing."""
    stage = Stage("a")
    stage.play(2_000_000, a=SPEECH)
    stage.play(SILENCE_US * 2)
    assert stage.changes == ["a", None]


def test_a_cough_does_not_take_over() -> None:
    stage = Stage("a", "b")
    stage.play(3_000_000, a=SPEECH, b=ROOM)
    stage.play(STEP_US, a=SPEECH, b=5)
    stage.play(2_000_000, a=SPEECH, b=ROOM)
    assert stage.changes == ["a"]


def test_equally_loud_people_do_not_flap() -> None:
    stage = Stage("a", "b")
    for _ in range(10):
        stage.play(600_000, a=SPEECH, b=SPEECH + 3)
        stage.play(600_000, a=SPEECH + 3, b=SPEECH)
    assert len(stage.changes) == 1


def test_a_clearly_louder_voice_takes_over_after_the_hold() -> None:
    stage = Stage("a", "b")
    stage.play(400_000, a=SPEECH, b=ROOM)
    started_us = stage.now_us
    stage.play(200_000, a=SPEECH, b=ROOM)
    assert stage.changes == ["a"]
    stage.play(HOLD_US - 600_000, a=ROOM, b=10)
    assert stage.changes == ["a"]
    stage.play(2_000_000, a=ROOM, b=10)
    assert stage.changes == ["a", "b"]
    assert stage.now_us > started_us + HOLD_US


def test_a_speaker_who_leaves_is_replaced_at_the_next_update() -> None:
    stage = Stage("a", "b")
    stage.play(2_000_000, a=SPEECH, b=SPEECH + 2)
    stage.detector.remove("a")
    stage.detector.remove("a")
    stage.play(STEP_US, b=SPEECH + 2)
    assert stage.changes == ["a", "b"]
    stage.detector.remove("b")
    stage.play(STEP_US)
    assert stage.changes == ["a", "b", None]


def test_the_voice_flag_is_not_part_of_the_level() -> None:
    level = AudioLevel()
    level.add(0x80 | 27)
    level.smooth(1.0)
    assert level.loudness == 100
