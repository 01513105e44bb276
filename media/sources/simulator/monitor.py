"""The simulated monitor: blocks of samples and vital signs, at any speed (`Simulator`) or live (`SimulatedMonitor`)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from media.core.waveform import StreamFormat
from media.sources.model import VITAL_UNITS, Block, LiveFormat, LiveItem, Vital, VitalCode, block_of
from media.sources.simulator import body
from media.sources.simulator.artefacts import Artefact, disturb, no_contact, saturate
from media.sources.simulator.heart import Heart, Rhythm, Territory
from media.sources.simulator.vitals import VitalSigns

DEVICE: Final = "模拟监护仪 Simulated monitor"
RATES_HZ: Final = (250, 500, 1000)
LATE_US: Final = 1_000_000
"""Later than this (the machine slept) and the monitor goes on in the present: a hole, not old samples as live."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One simulated patient on one simulated monitor."""

    rhythm: Rhythm = Rhythm.SINUS
    rate_bpm: float | None = None
    """Beats per minute; the rhythm's usual ones when not given."""
    sample_rate_hz: int = 500
    lsb_nv: int = 2500
    extra_leads: int = 0
    """How many of V7 V8 V9 V3R, at most 4: 16 leads to a stream."""
    seed: int = 1
    st_mv: dict[Territory, float] = field(default_factory=dict)
    artefacts: tuple[Artefact, ...] = ()
    vitals: frozenset[VitalCode] = frozenset(VITAL_UNITS)
    nibp_every_s: float = 300.0
    mains_hz: float = 50.0

    def __post_init__(self) -> None:
        if self.sample_rate_hz not in RATES_HZ:
            raise ValueError(f"sample_rate_hz must be one of {RATES_HZ}, not {self.sample_rate_hz}")
        if not 0 <= self.extra_leads <= 4:
            raise ValueError("extra_leads must be 0 to 4: a stream has at most 16 leads")
        if self.rate_bpm is not None and not 10 <= self.rate_bpm <= 300:
            raise ValueError("rate_bpm must be 10 to 300")
        if not 500 <= self.lsb_nv <= 20_000 or self.nibp_every_s < 10:
            raise ValueError("lsb_nv must be 500 to 20000, nibp_every_s at least 10")


class Simulator:
    """A patient, sample by sample; no clock. The same settings give the same samples."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leads = body.lead_names(extra=settings.extra_leads)
        self.heart = Heart(settings.rhythm, rate_bpm=settings.rate_bpm, seed=settings.seed, st_mv=settings.st_mv)
        self.position = 0
        """Samples made so far."""
        self._rng = np.random.default_rng(settings.seed + 1)
        self._vitals = VitalSigns(self.heart, settings.vitals, settings.nibp_every_s)

    @property
    def format(self) -> LiveFormat:
        """What it sends. ``simulated`` is a constant [W9]."""
        made = self.settings
        stream = StreamFormat(
            stream_id=1, leads=len(self.leads), sample_rate_mhz=made.sample_rate_hz * 1000, lsb_nv=made.lsb_nv,
            simulated=True,
        )  # fmt: skip
        return LiveFormat(
            leads=self.leads, sample_rate_mhz=stream.sample_rate_mhz, lsb_nv=made.lsb_nv, device=DEVICE,
            filter="0-150 Hz, no notch (simulated)", simulated=True, block_samples=stream.block_samples,
            reports_vitals=bool(made.vitals),
        )  # fmt: skip

    def block(self, samples: int) -> Block:
        """The next ``samples`` samples; ``captured_us`` counts from the first ever."""
        made, rate = self.settings, self.settings.sample_rate_hz
        times_s = np.arange(self.position, self.position + samples) / rate
        electrodes = body.potentials(self.heart.dipole(times_s), self.leads)
        electrodes = disturb(electrodes, times_s, made.artefacts, self._rng, made.mains_hz)
        values = body.measured(electrodes, self.leads, made.lsb_nv)
        reasons = body.off_reasons(no_contact(made.artefacts, times_s), self.leads, samples)
        saturate(values, reasons, self.leads, made.artefacts, times_s, made.lsb_nv)
        first_s = self.position / rate
        paces = {int(round((at - first_s) * rate, 6)) for at in self.heart.paces(first_s, first_s + samples / rate)}
        pace = tuple(sorted(p for p in paces if 0 <= p < samples))
        block = block_of(values, reasons, captured_us=self.position * 1_000_000 // rate, pace=pace)
        self.position += samples
        return block

    def skip(self, samples: int) -> None:
        """Time that passes without samples."""
        self.position += samples

    def vitals(self) -> Iterator[Vital]:
        """What was determined up to the last sample made; times on the same clock as ``captured_us``."""
        return self._vitals.until(self.position / self.settings.sample_rate_hz)


class SimulatedMonitor:
    """The simulator as a `LiveSource`, at the pace of this machine's clock.

    Args:
        now_us: the monotonic clock; another one in tests.
        drift_ppm: how much faster its crystal runs than that clock.
    """

    def __init__(self, settings: Settings, *, now_us: Callable[[], int] | None = None, drift_ppm: float = 0.0) -> None:
        self.simulator = Simulator(settings)
        self._now_us = now_us or (lambda: time.monotonic_ns() // 1000)
        self._scale = 1 / (1 + drift_ppm / 1e6)
        self._start_us: int | None = None

    async def open(self) -> tuple[LiveFormat, ...]:
        """See `LiveSource`."""
        return (self.simulator.format,)

    async def items(self) -> AsyncIterator[tuple[int, LiveItem]]:
        """See `LiveSource`. A block comes when its last sample would have been taken."""
        rate = self.simulator.settings.sample_rate_hz
        block_samples = self.simulator.format.block_samples
        if self._start_us is None:
            self._start_us = self._now_us() - round(self.simulator.position * 1e6 / rate)
        skipped = 0
        while True:
            due_us = self._at_us((self.simulator.position + block_samples) * 1_000_000 // rate)
            late_us = self._now_us() - due_us
            if late_us > LATE_US:
                hole = late_us * rate // 1_000_000
                self.simulator.skip(hole)
                skipped += hole
                continue
            if late_us < 0:
                await asyncio.sleep(-late_us / 1e6)
            else:
                await asyncio.sleep(0)  # others' turn, however late we are
            block = self.simulator.block(block_samples)
            yield 0, replace(block, captured_us=self._at_us(block.captured_us), skipped=skipped)
            skipped = 0
            for vital in self.simulator.vitals():
                yield 0, replace(vital, at_us=self._at_us(vital.at_us))

    def _at_us(self, simulated_us: int) -> int:
        assert self._start_us is not None, "items() began"
        return self._start_us + round(simulated_us * self._scale)

    async def close(self) -> None:
        """See `LiveSource`; the patient lives on and goes on where it is."""
