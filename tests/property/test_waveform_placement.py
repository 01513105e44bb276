"""Rules W1 to W5: whatever the network and the source do, only received samples are drawn, each in its own place."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media.core.waveform import Assembler, Flag, FrameWriter, StreamFormat, WaveformFrame, build_message
from media.core.waveform.frame import parse_frame, with_flags

FORMAT = StreamFormat(stream_id=9, leads=2, sample_rate_mhz=1_000_000, lsb_nv=1000, simulated=False)
START_US = 1_700_000_000_000_000


@dataclass
class Source:
    """A device that numbers its samples; remembers the truth about each frame."""

    named: bool = False
    """Whether each of its countings has a name of its own [WF19]."""
    frames: list[bytes] = field(default_factory=list)
    truth: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Frame -> (true session, index of its first sample)."""
    session: int = 0

    def __post_init__(self) -> None:
        self.writer = FrameWriter(FORMAT, numbering=int(self.named))
        self.now_us = START_US
        self.counter = 0

    def act(self, action: tuple[str, int]) -> None:
        kind, amount = action
        if kind == "skip":
            self.writer.skip(amount)
            self.now_us += amount * 1000
            return
        if kind == "restart" or (kind == "power_cycle" and not self.named):
            self.writer.restart()
            self.session += 1
            # No pause at all, and a clock set back, included. Where countings have no names, repaired frames from
            # before such a step or a power cycle look like new ones: nothing is promised there [WF19].
            self.now_us += max(amount % 7 - 2, -2 if self.named else 0) * 10_000
        elif kind == "power_cycle":
            self.session += 1
            self.writer = FrameWriter(FORMAT, numbering=self.session + 1 if self.named else 0)
            self.now_us += 1_000_000 + amount * 100_000
        n = 1 + amount % 40
        samples = np.arange(self.counter, self.counter + n).astype(np.int16)
        self.counter += n
        index = self.writer.index
        self.writer.write(np.stack((samples, -samples)), t0_us=self.now_us, context_version=1)
        frame = self.writer._previous
        assert frame is not None
        self.frames.append(frame)
        self.truth[frame] = (self.session, index)
        self.now_us += n * 1000


actions = st.tuples(
    st.sampled_from(["write"] * 10 + ["skip", "restart", "restart", "power_cycle"]), st.integers(1, 300)
)
fates = st.lists(st.sampled_from(["lost", "ok", "ok", "ok", "twice", "late", "very late"]), min_size=60, max_size=60)


def deliver(source: Source, fate: list[str], redundant: bool) -> list[bytes]:
    """The messages as they arrive."""
    order: list[tuple[int, bytes]] = []
    for i, frame in enumerate(source.frames):
        previous = source.frames[i - 1] if i else None
        neighbours = previous is not None and parse_frame(previous).seq + 1 == parse_frame(frame).seq
        message = build_message(frame, previous) if redundant and neighbours else frame
        what = fate[i % len(fate)]
        if what in ("ok", "twice"):
            order.append((i, message))
        if what in ("late", "twice"):
            order.append((i + 3, with_flags(frame, add=Flag.RESEND)))
        if what == "very late":
            order.append((i + 20, with_flags(frame, add=Flag.RESEND)))
    return [message for _, message in sorted(order, key=lambda item: item[0])]


class Recorder(Assembler):
    """An assembler whose placements are written down from outside."""

    def __init__(self) -> None:
        super().__init__(FORMAT.leads, FORMAT.sample_rate_mhz)
        self.placed: dict[int, tuple[bytes, int]] = {}

    def place(self, frame: WaveformFrame):  # type: ignore[no-untyped-def]
        placement = super().place(frame)
        if placement is not None:
            for i in range(frame.n):
                assert placement.position + i not in self.placed, "a cell was filled twice [W5]"
                self.placed[placement.position + i] = (frame.encoded, i)
        return placement


def fate_of(first: str) -> list[str]:
    """Written short: what happens to the first frames; the rest come through."""
    return [{"o": "ok", "-": "lost", "l": "late", "v": "very late"}[one] for one in first.ljust(60, "o")]


@settings(max_examples=400, deadline=None)
@example([("write", 1), ("restart", 1), ("write", 1), ("write", 1), ("restart", 2), ("write", 1)],
         fate_of("ov-o-o"), False, True)  # fmt: skip
@example([("restart", 1), ("restart", 3), ("restart", 1), ("write", 1), ("write", 1), ("write", 1)],
         fate_of("o--l-o"), True, True)  # fmt: skip
@given(st.lists(actions, min_size=1, max_size=60), fates, st.booleans(), st.booleans())
def test_only_received_samples_are_drawn_each_in_its_place(
    story: list[tuple[str, int]], fate: list[str], redundant: bool, named: bool
) -> None:
    """[W1] [W2] [W3] [W4] [W5] Drawn is a subset of sent, at its own index; holes stay holes; nothing twice."""
    source = Source(named=named)
    for action in story:
        source.act(action)
    receiver = Recorder()
    for message in deliver(source, fate, redundant):
        receiver.accept(message)

    offset_of_session: dict[int, set[int]] = {}
    sample_at: dict[int, tuple[int, int]] = {}
    for position, (frame, i) in receiver.placed.items():
        session, first = source.truth[frame]
        sample_at[position] = (session, first + i)
        offset_of_session.setdefault(session, set()).add(position - first - i)
    # [W3] one session, one offset between index and place, whatever was lost in between.
    assert all(len(offsets) == 1 for offsets in offset_of_session.values())
    assert len(set(sample_at.values())) == len(sample_at), "one sample drawn in two places"

    for lead in range(FORMAT.leads):
        drawn = receiver.drawn(lead)
        kept = [p for p in sorted(receiver.placed) if p >= receiver.end - receiver.capacity]
        # [W1] [W2] exactly the received samples: every other cell is blank.
        assert drawn.position.tolist() == kept
        for position, value, joined in zip(drawn.position, drawn.value, drawn.joined, strict=True):
            frame, i = receiver.placed[int(position)]
            assert value == parse_frame(frame).samples[lead, i]
            if joined:
                session, index = sample_at[int(position)]
                assert sample_at[int(position) - 1] == (session, index - 1), "a line was drawn across a hole"


@settings(max_examples=100, deadline=None)
@given(st.lists(actions, min_size=1, max_size=60))
def test_without_loss_everything_is_drawn(story: list[tuple[str, int]]) -> None:
    """[W1] The rules above are not met by drawing nothing: a clean line shows every sample of the last minute.

    Of a source that names its countings: without a name, a clock set back behind a power cycle and frames from before
    it look alike, and what may be old is not drawn.
    """
    source = Source(named=True)
    for action in story:
        source.act(action)
    receiver = Recorder()
    for frame in source.frames:
        receiver.accept(frame)

    assert len(receiver.placed) == source.counter
    assert receiver.tracker.missing == []


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.integers(1, 40), st.data())
def test_a_gap_of_n_samples_is_blank_of_exactly_n(frames: int, n: int, data: st.DataObject) -> None:
    """[W2] [W3] Every lost frame leaves a hole of its own width, and what follows does not move."""
    source = Source()
    for _ in range(frames):
        source.act(("write", n - 1 or 40))
    width = 1 + (n - 1 or 40) % 40
    lost = data.draw(st.sets(st.integers(1, frames - 1), max_size=frames - 1))
    receiver = Assembler(FORMAT.leads, FORMAT.sample_rate_mhz)
    for i, frame in enumerate(source.frames):
        if i not in lost:
            receiver.accept(frame)

    blank = set(range(receiver.end)) - set(receiver.drawn(0).position.tolist())
    newest = max(set(range(frames)) - lost)
    assert blank == {i * width + k for i in lost if i < newest for k in range(width)}
