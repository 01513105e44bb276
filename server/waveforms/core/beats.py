"""R peaks and a heart rate from the samples of one stream, once a second over the last ten.

sleepecg finds peaks in the two leads that show QRS complexes best; a peak counts where both have it (150 ms), at the
place of the better one, and never within 250 ms of another. The rate is that of the median RR interval. Where there is
only one usable lead, an independent and cheap look at the same samples (autocorrelation of the slope's energy) must
agree. It says None and *unsure* instead of a number when the leads disagree by more than 5 bpm for 5 s, when no lead is
good enough, off, or has a hole in the last seconds. A computed value is no monitor's and raises no alarm (W35).

Nothing is kept but ten seconds of samples; nothing is drawn from here. Beats carry the server time of their sample.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sleepecg.heartbeats import detect_heartbeats

from media.core.waveform import GapTracker, MalformedFrame, parse_frame

WINDOW_S: Final = 10
LEAST_S: Final = 6.0
"""Of unbroken signal; less shows too few beats of a slow heart."""
REFRACTORY_S: Final = 0.25
MATCH_S: Final = 0.15
REFINE_S: Final = 0.05
EDGE_S: Final = 0.6
"""Beats this close to the end of the window are told with the next one: what follows decides about them."""
DISAGREE_BPM: Final = 5.0
DISAGREE_S: Final = 5.0
STALE_US: Final = 3_000_000
"""Without a sample for so long there is no rate (the trace is STALE then)."""
CHOOSE_EVERY: Final = 5
"""Windows between two looks at which leads are best."""
PEAKY: Final = 7.0
"""Steepest slope over the usual one: QRS complexes have 10 to 50, noise 4 to 5."""
SWING_UV: Final = (80.0, 12_000.0)
LOWEST_BPM, HIGHEST_BPM = 20.0, 300.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a window says."""

    bpm: float | None
    beats_us: tuple[int, ...]
    """Peaks that are new."""
    at_us: int
    """End of the window."""
    unsure: bool


@dataclass(slots=True)
class _Chosen:
    leads: tuple[int, ...] = ()
    age: int = CHOOSE_EVERY


class HeartWindow:
    """The last ten seconds of one stream.

    Args:
        leads: how many rows.
        lsb_nv: nanovolts per step, where a frame does not say.
    """

    def __init__(self, leads: int, sample_rate_mhz: int, lsb_nv: int) -> None:
        self.rate_hz = sample_rate_mhz / 1000
        self._rate_mhz, self._lsb_nv = sample_rate_mhz, lsb_nv
        self._size = max(2, round(WINDOW_S * self.rate_hz))
        self._values = np.zeros((leads, self._size), np.float64)
        self._valid = np.zeros((leads, self._size), np.bool_)
        self._tracker = GapTracker(sample_rate_mhz)
        self._end = 0
        """Position after the newest sample."""
        self._end_us = 0
        self._told_us = 0
        self._chosen = _Chosen()
        self._disagree_since_us: int | None = None

    def push(self, frames: list[bytes]) -> None:
        """Take frames in; one that does not decode is left out."""
        for encoded in frames:
            try:
                frame = parse_frame(encoded)
                if frame.lead_mask.bit_length() > len(self._values) or frame.n > self._size:
                    continue
                samples, valid = frame.samples, frame.valid
            except MalformedFrame:
                continue
            placement = self._tracker.offer(frame)
            if placement is None:
                continue
            if placement.restart:
                self._valid[:] = False  # another session: intervals across its seam mean nothing
            self._advance(placement.position + frame.n)
            at = placement.position - (self._end - self._size)
            if at < 0:
                continue
            scale = (frame.lsb_nv or self._lsb_nv) / 1000
            for row, lead in enumerate(frame.leads):
                self._values[lead, at : at + frame.n] = samples[row] * scale
                self._valid[lead, at : at + frame.n] = valid[row]
            if placement.position + frame.n == self._end:
                self._end_us = frame.t0_us + frame.n * 1_000_000_000 // self._rate_mhz

    def rate(self, now_us: int) -> Rate:
        """Look at the window.

        Args:
            now_us: server time.
        """
        none = Rate(None, (), self._end_us, unsure=True)
        if now_us - self._end_us > STALE_US:
            return none
        leads = self._choose()
        if not leads:
            return none
        found = [self._peaks(lead) for lead in leads]
        start = max(self._unbroken(lead) for lead in leads)
        rates = [_bpm(peaks, self.rate_hz) for peaks in found]
        second = rates[1] if len(found) > 1 else self._second_opinion(leads[0], start)
        beats = _vote(found, self.rate_hz) if len(found) > 1 else found[0]
        return self._judge(beats, rates[0], second)

    def _judge(self, beats: NDArray[np.int64], first: float | None, second: float | None) -> Rate:
        times = [self._time_us(int(peak)) for peak in beats]
        edge_us = self._end_us - round(EDGE_S * 1e6)
        fresh = tuple(t for t in times if self._told_us + round(REFRACTORY_S * 1e6) < t <= edge_us)
        if fresh:
            self._told_us = fresh[-1]
        bpm = _bpm(beats, self.rate_hz)
        agree = first is not None and second is not None and abs(first - second) <= DISAGREE_BPM
        if agree:
            self._disagree_since_us = None
        elif self._disagree_since_us is None:
            self._disagree_since_us = self._end_us
        since_us = self._disagree_since_us
        # the first seconds of a disagreement: the number stays, said to be unsure
        lasting = since_us is not None and self._end_us - since_us >= DISAGREE_S * 1e6
        if bpm is None or lasting:
            return Rate(None, fresh, self._end_us, unsure=True)
        return Rate(round(bpm, 1), fresh, self._end_us, unsure=not agree)

    def _advance(self, stop: int) -> None:
        shift = stop - self._end
        if shift <= 0:
            return
        if shift >= self._size:
            self._valid[:] = False
        else:
            self._values[:, :-shift] = self._values[:, shift:]
            self._valid[:, :-shift] = self._valid[:, shift:]
            self._valid[:, -shift:] = False
        self._end = stop

    def _unbroken(self, lead: int) -> int:
        """First cell of the stretch of signal that goes on to the end."""
        holes = np.flatnonzero(~self._valid[lead])
        return int(holes[-1]) + 1 if len(holes) else 0

    def _usable(self, lead: int) -> bool:
        return (self._size - self._unbroken(lead)) >= LEAST_S * self.rate_hz

    def _choose(self) -> tuple[int, ...]:
        """The two leads with the clearest QRS complexes; fewer where fewer are good."""
        chosen = self._chosen
        chosen.age += 1
        usable = tuple(lead for lead in chosen.leads if self._usable(lead))
        if usable == chosen.leads and usable and chosen.age < CHOOSE_EVERY:
            return usable
        scores = [(self._score(lead), lead) for lead in range(len(self._values)) if self._usable(lead)]
        best = sorted((one for one in scores if one[0] >= PEAKY), reverse=True)[:2]
        self._chosen = _Chosen(tuple(lead for _, lead in best), 0)
        return self._chosen.leads

    def _score(self, lead: int) -> float:
        signal = self._values[lead, self._unbroken(lead) :]
        return clarity(signal, self.rate_hz)

    def _peaks(self, lead: int) -> NDArray[np.int64]:
        start = self._unbroken(lead)
        return find_peaks(self._values[lead, start:], self.rate_hz) + start

    def _second_opinion(self, lead: int, start: int) -> float | None:
        return rate_by_autocorrelation(self._values[lead, start:], self.rate_hz)

    def _time_us(self, cell: int) -> int:
        return self._end_us - (self._size - cell) * 1_000_000_000 // self._rate_mhz


def find_peaks(signal: Floats, rate_hz: float) -> NDArray[np.int64]:
    """R peaks of one unbroken lead, each at its extreme sample, none within the refractory time of another."""
    if len(signal) < rate_hz:
        return np.zeros(0, np.int64)
    found = np.asarray(detect_heartbeats(signal, rate_hz), np.int64)
    if not len(found):
        return found
    reach = max(1, round(REFINE_S * rate_hz))
    baseline = float(np.median(signal))
    refined = [
        max(0, peak - reach) + int(np.argmax(np.abs(signal[max(0, peak - reach) : peak + reach + 1] - baseline)))
        for peak in found
    ]
    return _apart(np.array(sorted(refined), np.int64), np.abs(signal - baseline), rate_hz)


def _apart(peaks: NDArray[np.int64], height: Floats, rate_hz: float) -> NDArray[np.int64]:
    """Of two peaks within the refractory time the higher one stays."""
    kept: list[int] = []
    for peak in peaks:
        if kept and peak - kept[-1] < REFRACTORY_S * rate_hz:
            if height[peak] > height[kept[-1]]:
                kept[-1] = int(peak)
        else:
            kept.append(int(peak))
    return np.array(kept, np.int64)


def _vote(found: list[NDArray[np.int64]], rate_hz: float) -> NDArray[np.int64]:
    """Peaks of the better lead that the other has too."""
    best, other = found
    if not len(best) or not len(other):
        return np.zeros(0, np.int64)
    at = np.searchsorted(other, best)
    left = np.abs(best - other[np.maximum(at - 1, 0)])
    right = np.abs(best - other[np.minimum(at, len(other) - 1)])
    confirmed: NDArray[np.int64] = best[np.minimum(left, right) <= MATCH_S * rate_hz]
    return confirmed


def _bpm(peaks: NDArray[np.int64], rate_hz: float) -> float | None:
    """Rate of the median interval; None for fewer than three beats or a rate no heart has."""
    if len(peaks) < 3:
        return None
    bpm = 60 * rate_hz / float(np.median(np.diff(peaks)))
    return bpm if LOWEST_BPM <= bpm <= HIGHEST_BPM else None


def clarity(signal: Floats, rate_hz: float) -> float:
    """How far the steepest slopes stand out of the usual ones; 0 for a flat or absurdly large signal."""
    if len(signal) < rate_hz:
        return 0.0
    low, high = np.percentile(signal, (0.2, 99.8))
    if not SWING_UV[0] <= high - low <= SWING_UV[1]:
        return 0.0
    step = max(1, round(0.02 * rate_hz))
    slope = np.abs(signal[step:] - signal[:-step])
    usual = float(np.median(slope))
    return float(np.percentile(slope, 99)) / max(usual, 1.0)


def rate_by_autocorrelation(signal: Floats, rate_hz: float) -> float | None:
    """A rate from the rhythm of steep slopes alone, without finding a single beat; None where there is no rhythm."""
    step = max(1, round(0.02 * rate_hz))
    energy = (signal[step:] - signal[:-step]) ** 2
    bin_size = max(1, round(rate_hz / 50))
    bins = len(energy) // bin_size
    if bins < 150:
        return None
    envelope = np.sqrt(energy[: bins * bin_size].reshape(bins, bin_size).mean(axis=1))
    envelope = np.convolve(envelope, np.ones(5) / 5, "same")
    envelope -= envelope.mean()
    correlation = np.correlate(envelope, envelope, "full")[bins - 1 :]
    if correlation[0] <= 0:
        return None
    per_s = rate_hz / bin_size
    shortest, longest = max(1, int(60 / 220 * per_s)), min(bins // 2, int(60 / 25 * per_s))
    # an interval that fits twice fits once as well: the shortest of those that fit nearly best
    part = correlation[shortest : longest + 1] / correlation[0]
    if len(part) < 3 or float(part.max()) < 0.25:
        return None
    inner = np.flatnonzero((part[1:-1] >= part[:-2]) & (part[1:-1] >= part[2:]) & (part[1:-1] >= 0.85 * part.max()))
    if not len(inner):
        return None
    at = int(inner[0]) + 1
    a, b, c = part[at - 1], part[at], part[at + 1]
    bend = a - 2 * b + c
    fine = float(0.5 * (a - c) / bend) if bend else 0.0
    return 60 * per_s / (shortest + at + fine)


def beats_of(
    values: NDArray[np.int16], valid: NDArray[np.bool_], rate_hz: float, lsb_nv: int
) -> tuple[list[int], bool]:
    """Cells of the R peaks of a whole run, over every stretch in which two leads (or the only one) are unbroken.

    Returns:
        The cells, and whether some of the run could not be judged.
    """
    beats: list[int] = []
    unsure = False
    window, step = round(WINDOW_S * rate_hz), round((WINDOW_S - 4) * rate_hz)
    total = values.shape[1]
    for start in range(0, total, step):
        stop = min(total, start + window)
        rows = [lead for lead in range(len(values)) if valid[lead, start:stop].all()]
        signals = {lead: values[lead, start:stop].astype(np.float64) * (lsb_nv / 1000) for lead in rows}
        scores = sorted(((clarity(signal, rate_hz), lead) for lead, signal in signals.items()), reverse=True)
        best = [lead for score, lead in scores if score >= PEAKY][:2]
        if not best:
            unsure = True
            continue
        found = [find_peaks(signals[lead], rate_hz) for lead in best]
        peaks = _vote(found, rate_hz) if len(found) > 1 else found[0]
        for peak in peaks + start:
            if all(abs(int(peak) - old) >= REFRACTORY_S * rate_hz for old in beats[-40:]):
                beats.append(int(peak))
    return sorted(beats), unsure


def summary(beats_us: list[int]) -> dict[str, Any]:
    """Beats with the rate between each and the one before."""
    rates = [None, *(round(6e7 / (b - a), 1) for a, b in pairwise(beats_us))]
    return {"beats_us": beats_us, "rates_bpm": rates[: len(beats_us)]}
