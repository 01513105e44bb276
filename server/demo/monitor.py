"""The simulated bedside monitor: a process that plays the sample ECG as a live device.

It joins with role ``device`` like any client (`client`), announces a stream that
is marked simulated and bound to the test patient [W9, W20], learns the hub's
clock over the ``ctl`` pair, and sends 50 ms frames on an unordered channel
without retransmits. It sends only while it is bound to its patient, and at its
simulated bedside it binds itself, with the two identifiers of the sample
patient's wristband, whenever that patient is opened [W20, W21].

The pace and the numbering are `Playback` (pure); the record is `recording`.
"""

import asyncio
import contextlib
import secrets
import sys
import time
from collections import deque
from dataclasses import dataclass

import msgpack
import numpy as np
from numpy.typing import NDArray

from media.core.waveform import Flag, FrameWriter, StreamFormat
from server.demo import child, patients
from server.demo.client import Assignment, DataIn, DataOut, Lost, Media, Signalling, perform, running
from server.demo.recording import LEADS, Recording, sample_record
from server.record.core.banner import banner_of
from signaling.core import messages as m
from signaling.core.ids import DataProducerId, PatientId
from signaling.core.model import WaveformStream

PATIENT = PatientId(patients.ECG_PATIENT)
CTL = DataProducerId("ctl")
DEVICE = "模拟监护仪 Simulated monitor"
FIRST_PINGS, FIRST_PING_S, PING_S = 5, 0.2, 5.0
PONG_S = 2.0
WORD_S = 5.0
"""How much later than the end of the channel the hub's word for it may come."""
LATE_S = 1.0
"""Later than this (the machine slept) and the record starts anew in the present; old samples are not sent as live."""
FULL_BYTES = 16_384
"""Of unsent frames: a path that is this far behind loses frames, which downstream is an ordinary gap."""


class HubClock:
    """The hub's clock seen from here: the offset of the quickest of the last pings."""

    def __init__(self, keep: int = 60) -> None:
        self._pings: deque[tuple[int, int]] = deque(maxlen=keep)

    def add(self, sent_us: int, received_us: int, hub_us: int) -> None:
        """One ping: our times, and the hub's in between."""
        self._pings.append((received_us - sent_us, hub_us - (sent_us + received_us) // 2))

    @property
    def synced(self) -> bool:
        """Whether any ping was answered."""
        return bool(self._pings)

    @property
    def offset_us(self) -> int:
        """Hub time minus ours; 0 until the first answer."""
        return min(self._pings)[1] if self._pings else 0


@dataclass(frozen=True)
class Block:
    """What to send next."""

    samples: NDArray[np.int16]
    due_us: int
    """When the last sample has been taken, on the player's clock."""
    first_us: int
    """When the first sample was taken, on the player's clock."""
    restart: bool
    """The record begins anew here."""


class Playback:
    """Cuts the record into blocks and gives each its time. No clock: times are arguments.

    Args:
        samples: int16, shape (leads, n).
        block_samples: samples per block.
    """

    def __init__(self, samples: NDArray[np.int16], block_samples: int, sample_rate_mhz: int) -> None:
        self._samples, self._block, self._rate_mhz = samples, block_samples, sample_rate_mhz
        self._position = 0
        self._start_us: int | None = None

    def rewind(self) -> None:
        """Start the record anew with the next block."""
        self._position, self._start_us = 0, None

    def next(self, now_us: int) -> Block:
        """The next block. The record's last block may be shorter; then it begins anew without a pause."""
        if self._start_us is None:
            self._start_us = now_us
        elif self._position >= self._samples.shape[1]:
            self._start_us += self._duration_us(self._samples.shape[1])
            self._position = 0
        first = self._position
        samples = self._samples[:, first : first + self._block]
        self._position += samples.shape[1]
        return Block(
            samples=samples,
            due_us=self._start_us + self._duration_us(self._position),
            first_us=self._start_us + self._duration_us(first),
            restart=first == 0,
        )

    def _duration_us(self, samples: int) -> int:
        return samples * 1_000_000_000 // self._rate_mhz


class Monitor:
    """One bedside device; keeps its stream id and numbering over every rebuilding of the media."""

    def __init__(self, recording: Recording, stream_id: int) -> None:
        self.stream = WaveformStream(
            stream_id=stream_id,
            leads=LEADS,
            sample_rate_mhz=recording.sample_rate_mhz,
            lsb_nv=recording.lsb_nv,
            device=f"{DEVICE}: {recording.device}",
            filter=recording.filter,
            simulated=True,
            patient=PATIENT,
        )
        announced = StreamFormat(
            stream_id=stream_id,
            leads=len(LEADS),
            sample_rate_mhz=recording.sample_rate_mhz,
            lsb_nv=recording.lsb_nv,
            simulated=True,
        )
        self.writer = FrameWriter(announced)
        self.playback = Playback(recording.samples, announced.block_samples, recording.sample_rate_mhz)
        self._anchor_us = 0
        self._anchor_synced = False

    def rewind(self) -> None:
        """The next frame starts a new session."""
        self.playback.rewind()
        self.writer.restart()

    def frame(self, block: Block, clock: HubClock, unix_us: int, context_version: int) -> bytes:
        """The message for one block.

        Args:
            unix_us: our wall clock minus the player's clock, used until the hub's is known.
            context_version: version of the open context of our patient.
        """
        # Within a session t0 follows the index exactly; what the clocks drifted is taken up at the seam. Only from our
        # own time to the hub's it steps at once: until then these samples have no known age (W11).
        restart = block.restart or (clock.synced and not self._anchor_synced)
        if restart:
            self._anchor_us = clock.offset_us if clock.synced else unix_us
            self._anchor_synced = clock.synced
        return self.writer.write(
            block.samples,
            t0_us=block.first_us + self._anchor_us,
            context_version=context_version,
            restart=restart,
            flags=Flag(0) if self._anchor_synced else Flag.CLOCK_UNSYNCED,
        )


def _now_us() -> int:
    return time.monotonic_ns() // 1000


async def _ping(ctl_out: DataOut, ctl_in: DataIn, clock: HubClock) -> None:
    """Keep the hub's clock known; runs until cancelled."""
    count = 0
    while True:
        sent_us = _now_us()
        ctl_out.send(msgpack.packb({"t": "ping", "c": sent_us}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PONG_S):
                clock.add(sent_us, *await _pong(ctl_in, sent_us))
        count += 1
        await asyncio.sleep(FIRST_PING_S if count < FIRST_PINGS else PING_S)


async def _pong(ctl_in: DataIn, sent_us: int) -> tuple[int, int]:
    """When the answer to this ping came, and the hub's time in it. Other messages are not for a source."""
    while True:
        raw = await ctl_in.messages.get()
        received_us = _now_us()
        try:
            answer = msgpack.unpackb(raw)
        except (ValueError, msgpack.UnpackException):
            continue
        if isinstance(answer, dict) and answer.get("t") == "pong" and answer.get("c") == sent_us:
            return received_us, int(answer["s"])


def wristband() -> tuple[str, str]:
    """The two identifiers at the simulated patient's wrist: of the sample record, not of what the consult shows."""
    person = patients.bundle(patients.STORIES[0], patients.today())[0]
    first, second = banner_of(person, test=True).identifiers
    return first.value, second.value


def _bound_version(signalling: Signalling) -> int | None:
    """Version of the context under which we are bound to our patient."""
    binding = signalling.binding
    return binding.context_version if binding is not None and binding.patient == PATIENT else None


async def _bind(signalling: Signalling) -> int:
    """Wait for our patient to be open, bind, and return the context's version. [W20]"""
    asked: int | None = None
    while (version := _bound_version(signalling)) is None:
        context = signalling.context
        if context is not None and context.patient.id == PATIENT and context.version not in (asked, signalling.let_go):
            assert signalling.you is not None, "joined"
            asked = context.version
            command = m.BindDevice(device=signalling.you, patient=PATIENT, context_version=asked, confirmed=wristband())
            await signalling.ask(command, m.Done)
            continue  # others clear the event too: look again before waiting for it
        signalling.changed.clear()
        await signalling.changed.wait()
    return version


async def _play(monitor: Monitor, signalling: Signalling, channel: DataOut, clock: HubClock, version: int) -> None:
    """Send frames while bound under this context version, as a session of its own."""
    monitor.rewind()
    while _bound_version(signalling) == version:
        block = monitor.playback.next(_now_us())
        wait_us = block.due_us - _now_us()
        if wait_us < -LATE_S * 1_000_000:
            monitor.rewind()
            continue
        await asyncio.sleep(max(0, wait_us) / 1_000_000)
        if _bound_version(signalling) == version:
            message = monitor.frame(block, clock, time.time_ns() // 1000 - _now_us(), version)
            channel.send(message, room_bytes=FULL_BYTES)


async def _stay_bound(monitor: Monitor, signalling: Signalling, media: Media, clock: HubClock) -> None:
    """Bind, announce, play, and begin again when the binding is over; runs until cancelled."""
    while True:
        version = await _bind(signalling)
        channel = await media.produce_data("ecg", reliable=False, waveform=monitor.stream)
        try:
            await _play(monitor, signalling, channel, clock, version)
        except Lost:
            await _unbound(signalling, version)  # the hub closes the channel with the binding and says so after it
        await channel.close()


async def _unbound(signalling: Signalling, version: int) -> None:
    """Wait for word that the binding is over.

    Raises:
        Lost: there is none, so the channel broke by itself.
    """
    try:
        async with asyncio.timeout(WORD_S):
            while _bound_version(signalling) == version:
                signalling.changed.clear()
                await signalling.changed.wait()
    except TimeoutError:
        raise Lost("data channel closed") from None


async def work(assignment: Assignment) -> None:
    """Play the record until cancelled."""
    monitor = Monitor(sample_record(), stream_id=1 + secrets.randbelow(2**32 - 1))

    async def performance(signalling: Signalling, media: Media) -> None:
        clock = HubClock()  # media made anew may be another process, with a clock of its own
        ctl_out = await media.produce_data("ctl", reliable=True)
        ctl_in = await media.consume_data(CTL)
        async with (
            running(_ping(ctl_out, ctl_in, clock)) as pinging,
            running(_stay_bound(monitor, signalling, media, clock)) as playing,
        ):
            await asyncio.wait({pinging, playing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (pinging, playing):
                if task.done():
                    task.result()

    await perform(assignment, performance)


if __name__ == "__main__":
    sys.exit(child.main(work))
