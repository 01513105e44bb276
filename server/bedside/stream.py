"""One stream on its way out: blocks of a device become frames with number, index and hub time.

Within a session time follows the index exactly, at the announced rate: whoever measures between two samples then
measures samples. A real crystal runs a little fast or slow, so the two part by milliseconds a minute;
when they are 20 ms apart, or the device's clock has stepped, a new session begins with the right time, and that is
an event for the log (W16), never a silent shift.

The last 30 s of frames are kept: after a reconnect they are sent again, marked as resent, behind the live ones.
Nothing of an ended binding is ever sent (W20). No clock and no I/O here.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from media.core.waveform import Flag, FrameRing, FrameWriter, StreamFormat, split_message, with_flags
from media.sources.model import Block, LiveFormat
from server.bedside.clock import HubClock, SampleClock
from signaling.core.ids import PatientId
from signaling.core.model import WaveformStream

DRIFT_US: Final = 20_000
"""Half of what ECG and video may differ at the 95th percentile."""
STEP_US: Final = 200_000
"""Less than the 250 ms by which a receiver tells that time and index contradict each other (WF7)."""
STEP_BLOCKS: Final = 3
"""One late stamp is jitter; three in a row are a step."""
MAX_TEXT: Final = 100

Reason = Literal["synced", "drift", "step"]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The device's time was put right: a new session began. (W16)"""

    reason: Reason
    by_us: int
    """How much later the samples are now said to have been taken."""
    drift_ppm: float


class OutStream:
    """Keeps a stream's numbering over every rebuilding of the media.

    Args:
        stream_id: chosen at random by the caller, not 0.
        numbering: likewise; names this stream's counting of frames. [WF19]
    """

    def __init__(self, source: LiveFormat, stream_id: int, numbering: int = 0) -> None:
        self.source = source
        self.stream_id = stream_id
        self.writer = FrameWriter(
            StreamFormat(
                stream_id=stream_id,
                leads=len(source.leads),
                sample_rate_mhz=source.sample_rate_mhz,
                lsb_nv=source.lsb_nv,
                simulated=source.simulated,
            ),
            numbering=numbering,
        )
        self.ring = FrameRing()
        self.corrections: deque[Correction] = deque(maxlen=100)
        """New ones since the caller last took them."""
        self.samples = SampleClock(source.sample_rate_mhz)
        self._taken = 0
        """Samples of the device so far, holes included, whatever sessions there were."""
        self._first = 0
        """``_taken`` where the device's own counting began; a session's index goes on from there."""
        self._anchor_us = 0
        self._synced = False
        self._version: int | None = None
        self._steps = 0
        self._resend: deque[int] = deque(maxlen=3000)

    def announcement(self, patient: PatientId) -> WaveformStream:
        """The descriptor for a binding to ``patient``."""
        source = self.source
        return WaveformStream(
            stream_id=self.stream_id,
            leads=source.leads,
            sample_rate_mhz=source.sample_rate_mhz,
            lsb_nv=source.lsb_nv,
            device=source.device[:MAX_TEXT] or "?",
            filter=source.filter[:MAX_TEXT],
            simulated=source.simulated,
            patient=patient,
        )

    def forget(self) -> None:
        """The binding is over: nothing of it is sent again, and what follows is a session of its own. (W20)"""
        self.ring.clear()
        self._resend.clear()
        self._version = None

    def clock_changed(self) -> None:
        """Another hub process with a clock of its own answers now: what was fitted says nothing about it."""
        self.samples.clear()

    def drop(self, block: Block) -> None:
        """The device measured this, but for nobody."""
        if block.restart:
            self._first = self._taken + block.skipped
        self._taken += block.skipped + block.samples.shape[1]

    def frame(self, block: Block, clock: HubClock, unix_us: int, context_version: int) -> bytes:
        """The message for one block.

        Args:
            unix_us: our wall clock minus the clock of ``captured_us``, used until the hub's is known.
            context_version: of the binding.
        """
        self._taken += block.skipped
        offset_us = clock.offset_at(block.captured_us) if clock.synced else unix_us
        stamped_us = block.captured_us + offset_us
        if block.restart:
            self.samples.clear()
        if clock.synced:
            self.samples.add(self._taken, stamped_us)
        if block.restart or context_version != self._version:
            if block.restart:
                self._first = self._taken
            self._begin(stamped_us, clock)
        else:
            if block.skipped:
                self.writer.skip(block.skipped)
            self._correct(stamped_us, clock)
        self._version = context_version
        t0_us = self._time_of(self.writer.index)
        message = self.writer.write(
            block.samples,
            t0_us=t0_us,
            context_version=context_version,
            flags=Flag(0) if self._synced else Flag.CLOCK_UNSYNCED,
            lead_off_mask=block.lead_off_mask,
            saturated_mask=block.saturated_mask,
            invalid_runs=block.invalid_runs,
            pace_offsets=block.pace_offsets,
        )
        frame, _ = split_message(message)
        self.ring.put(frame.seq, frame.encoded, block.captured_us)
        self._taken += block.samples.shape[1]
        return message

    def missed(self, seq: int | None = None) -> None:
        """A frame did not leave (``seq``), or what is kept may not have arrived (None): send it again with room."""
        if seq is None:
            self._resend = deque(self.ring.after(-1), maxlen=self._resend.maxlen)
        elif seq not in self._resend:
            self._resend.append(seq)

    def asked(self, first: int, last: int) -> None:
        """The hub lacks these: send again what is kept of them. [WF18]"""
        for seq in self.ring.after(first - 1):
            if seq > last:
                return
            self.missed(seq)

    def resends(self, limit: int) -> Iterator[bytes]:
        """Up to ``limit`` kept frames that were missed, oldest first, marked as resent."""
        for _ in range(min(limit, len(self._resend))):
            frame = self.ring.get(self._resend.popleft())
            if frame is not None:
                yield with_flags(frame, add=Flag.RESEND)

    @property
    def waiting(self) -> int:
        """Frames that are still to be sent again."""
        return len(self._resend)

    # ------------------------------------------------------------ time

    def _begin(self, t0_us: int, clock: HubClock) -> None:
        """A session begins with the next sample, taken at ``t0_us``."""
        index = self._taken - self._first
        self._anchor_us = t0_us - self._duration_us(index)
        self._synced, self._steps = clock.synced, 0
        self.writer.restart(index)

    def _time_of(self, index: int) -> int:
        return self._anchor_us + self._duration_us(index)

    def _duration_us(self, samples: int) -> int:
        return round(samples * 1_000_000_000 / self.source.sample_rate_mhz)

    def _correct(self, stamped_us: int, clock: HubClock) -> None:
        """Begin a new session at this block if the time of the present one is wrong."""
        said_us = self._time_of(self.writer.index)
        if clock.synced and not self._synced:
            # From our own time to the hub's at once: until then these samples have no known age (W11).
            self._put_right("synced", stamped_us, said_us, clock)
            return
        self._steps = self._steps + 1 if abs(stamped_us - said_us) > STEP_US else 0
        if self._steps >= STEP_BLOCKS:
            self.samples.clear()
            self._put_right("step", stamped_us, said_us, clock)
        elif self._steps == 0:
            fitted_us = self.samples.time_of(self._taken)
            if fitted_us is not None and abs(fitted_us - said_us) > DRIFT_US:
                self._put_right("drift", fitted_us, said_us, clock)

    def _put_right(self, reason: Reason, t0_us: int, said_us: int, clock: HubClock) -> None:
        self.corrections.append(Correction(reason=reason, by_us=t0_us - said_us, drift_ppm=self.samples.ppm))
        self._begin(t0_us, clock)
