"""Where a frame belongs: one sample axis per stream, whatever is lost, late, doubled or restarted.

`seq` counts frames and the index counts samples, so two holes can be told apart: a
missing seq is loss on the way (it can be asked for again), a jump of the index with
no missing seq is a hole at the source (nobody has those samples). A session restart
begins index and time anew; to keep one axis to draw on, each session gets an origin
on that axis chosen by server time, and within a session position is origin + index
and nothing else. So loss never moves a later sample (W3), and a session is never
joined to the one before (W5).

The frame that carries the restart flag may itself be lost. Then the restart is
inferred: from an index that went back, or is too small for the frames known to be
missing, or from a time that does not fit the index. A late frame is placed only
where both its number and its time agree; else it is counted as lost (W4). A source
whose clock steps back must say so with a session restart (`FrameWriter` does). A new
numbering is a device that was switched on again, whatever its clock says [WF19].

Keeping the samples is `assemble.py`; the browser's twin is web_client/src/waveform/tracker.ts.
"""

from dataclasses import dataclass
from typing import Final

from media.core.waveform.frame import Flag, WaveformFrame

TOLERANCE_US: Final = 250_000
"""Time and index of one session may differ this much (stamping jitter of a source)."""
WINDOW_FRAMES: Final = 4096
"""Frames remembered for recognising duplicates; more than a minute of the shortest frames in use."""
MAX_SESSIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the samples of an accepted frame go."""

    position: int
    """Place of the first sample on the stream's axis."""
    session: int
    """Number of the session, from 0."""
    late: bool
    """A newer frame was placed before."""
    restart: bool
    """First frame of a session or of a stream: never joined to what is before it."""


@dataclass(slots=True)
class _Session:
    number: int
    origin: int
    start_seq: int
    start_seen: bool
    first_index: int
    newest_seq: int
    ref_index: int
    ref_t0_us: int
    end_index: int


class GapTracker:
    """Places the frames of one stream and knows which are missing."""

    def __init__(self, sample_rate_mhz: int) -> None:
        self.rate_mhz = sample_rate_mhz
        self.duplicates = 0
        self.unplaceable = 0
        self.restarts = 0
        self.source_gap_samples = 0
        self.missing: list[tuple[int, int]] = []
        """Inclusive ranges of seq not seen yet, oldest first, within the last `WINDOW_FRAMES`."""
        self._sessions: list[_Session] = []
        self._seen: dict[int, int] = {}
        self._newest_seq = -1
        self._epoch_t0_us = 0
        self._numbering = 0
        self._past: dict[int, None] = {}
        """Numberings before this one."""

    @property
    def newest_seq(self) -> int:
        """Highest sequence number placed, -1 before the first."""
        return self._newest_seq

    def offer(self, frame: WaveformFrame) -> Placement | None:
        """Place a frame; None when it is a duplicate or belongs nowhere that is known (both counted)."""
        if frame.sample_rate_mhz != self.rate_mhz or frame.n == 0:
            self.unplaceable += 1
            return None
        if frame.numbering in self._past:
            self.unplaceable += 1
            return None
        if self._sessions and frame.numbering != self._numbering:
            return self._counts_anew(frame)
        self._numbering = frame.numbering
        if self._seen.get(frame.seq) == frame.t0_ns:
            self.duplicates += 1
            return None
        if frame.seq <= self._newest_seq:
            placement = self._older(frame)
        else:
            placement = None if self._from_before(frame) else self._newer(frame)
        if placement is None:
            self.unplaceable += 1
        else:
            self._remember(frame)
        return placement

    def _newer(self, frame: WaveformFrame) -> Placement:
        restart = True
        if self._sessions:
            last = self._sessions[-1]
            lost = frame.seq - self._newest_seq - 1
            restart = (
                bool(frame.flags & Flag.SESSION_RESTART)
                # Every lost frame held at least one sample, so a smaller index is another session's.
                or frame.first_sample < last.end_index + lost
                or not self._in_time(last, frame)
            )
            if lost:
                self._add_missing(self._newest_seq + 1, frame.seq - 1)
            elif not restart:
                self.source_gap_samples += frame.first_sample - last.end_index
        if restart:
            self._begin(frame)
        session = self._sessions[-1]
        session.newest_seq = self._newest_seq = frame.seq
        session.ref_index, session.ref_t0_us = frame.first_sample, frame.t0_us
        session.end_index = frame.end_sample
        return Placement(session.origin + frame.first_sample, session.number, late=False, restart=restart)

    def _older(self, frame: WaveformFrame) -> Placement | None:
        at = max((i for i, s in enumerate(self._sessions) if s.start_seq <= frame.seq), default=-1)
        if at >= 0 and not frame.flags & Flag.SESSION_RESTART and self._fits(self._sessions[at], frame):
            session = self._sessions[at]
        elif (
            at + 1 < len(self._sessions)
            and (at < 0 or frame.seq > self._sessions[at].newest_seq)
            and self._opens(self._sessions[at + 1], frame)
        ):
            session = self._sessions[at + 1]
            session.start_seq, session.first_index = frame.seq, frame.first_sample
            session.start_seen = bool(frame.flags & Flag.SESSION_RESTART)
        elif not self._numbering and frame.t0_us > self._time_of(self._sessions[-1], self._sessions[-1].end_index):
            return self._device_restarted(frame, frame.t0_us)
        else:
            return None
        self._take_missing(frame.seq)
        return Placement(session.origin + frame.first_sample, session.number, late=True, restart=False)

    def _from_before(self, frame: WaveformFrame) -> bool:
        """Whether a frame with a new number is an old one: from before the device restarted.

        Time may also step back at a source; then it says so with a session restart.
        """
        if not self._sessions:
            return False
        restart = bool(frame.flags & Flag.SESSION_RESTART)
        earlier = frame.t0_us < self._time_of(self._sessions[-1], self._sessions[-1].end_index) - TOLERANCE_US
        return frame.t0_us < self._epoch_t0_us or (earlier and not restart)

    def _counts_anew(self, frame: WaveformFrame) -> Placement:
        self._past[self._numbering] = None
        if len(self._past) > MAX_SESSIONS:
            del self._past[next(iter(self._past))]
        self._numbering = frame.numbering
        placement = self._device_restarted(frame, 0)
        self._remember(frame)
        return placement

    def _device_restarted(self, frame: WaveformFrame, since_us: int) -> Placement:
        """A lower seq at a later time: the source counts anew, so nothing old can be asked for (W5)."""
        self.missing.clear()
        self._seen.clear()
        self._begin(frame)
        del self._sessions[:-1]
        session = self._sessions[-1]
        self._newest_seq, self._epoch_t0_us = frame.seq, since_us
        return Placement(session.origin + frame.first_sample, session.number, late=False, restart=True)

    def _begin(self, frame: WaveformFrame) -> None:
        position, number = 0, 0
        if self._sessions:
            last = self._sessions[-1]
            elapsed = (frame.t0_us - last.ref_t0_us) * self.rate_mhz
            position = last.origin + max(last.ref_index + round(elapsed / 1e9), last.end_index)
            number = last.number + 1
            self.restarts += 1
        seen = bool(frame.flags & Flag.SESSION_RESTART)
        self._sessions.append(
            _Session(
                number=number, origin=position - frame.first_sample, start_seq=frame.seq, start_seen=seen,
                first_index=frame.first_sample, newest_seq=frame.seq, ref_index=frame.first_sample,
                ref_t0_us=frame.t0_us, end_index=frame.end_sample,
            )
        )  # fmt: skip
        del self._sessions[:-MAX_SESSIONS]

    def _time_of(self, session: _Session, index: int) -> float:
        return session.ref_t0_us + (index - session.ref_index) * 1e9 / self.rate_mhz

    def _in_time(self, session: _Session, frame: WaveformFrame) -> bool:
        return abs(frame.t0_us - self._time_of(session, frame.first_sample)) <= TOLERANCE_US

    def _fits(self, session: _Session, frame: WaveformFrame) -> bool:
        """Whether a late frame may belong to a session that began at or before it."""
        # Every frame between held at least one sample.
        between = frame.seq - session.newest_seq - 1
        if between >= 0 and frame.first_sample < session.end_index + between:
            return False
        return frame.first_sample >= session.first_index and self._in_time(session, frame)

    def _opens(self, session: _Session, frame: WaveformFrame) -> bool:
        """Whether a late frame is an earlier, so far unseen part of a session whose start was inferred."""
        return not session.start_seen and frame.end_sample <= session.first_index and self._in_time(session, frame)

    def _remember(self, frame: WaveformFrame) -> None:
        self._seen[frame.seq] = frame.t0_ns
        while len(self._seen) > WINDOW_FRAMES:
            del self._seen[next(iter(self._seen))]

    def _add_missing(self, first: int, last: int) -> None:
        self.missing.append((first, last))
        oldest = last - WINDOW_FRAMES
        self.missing = [(max(a, oldest), b) for a, b in self.missing if b >= oldest]

    def _take_missing(self, seq: int) -> None:
        for i, (first, last) in enumerate(self.missing):
            if first <= seq <= last:
                self.missing[i : i + 1] = [(a, b) for a, b in ((first, seq - 1), (seq + 1, last)) if a <= b]
                return
