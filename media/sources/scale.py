"""From what a file holds to strips: one int16 scale for all leads of a stream, without loss, or a refusal.

A frame carries int16 steps of a whole number of nanovolts. Files state any gain,
another one for each lead, and some another one for each segment (a monitor that
changed its amplification). In order of preference:

1. one common step of whole nanovolts that divides every gain: exact;
2. one gain everywhere: the file's own steps as they are, the step rounded to whole nanovolts (at most 0.1 %, told);
3. a finer common step, at most half of the smallest of the file, chosen so that everything fits: each value is
   within half of that finer step, and the file's own step can be computed back (told);
4. separate streams for leads of different gain;
5. refused.

Nothing is filtered, resampled or filled [W10]. A constant offset is applied in whole steps; what is left of
it, less than a step, is kept in `Lead.offset_nv`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.core.waveform import InvalidReason
from media.sources import checks
from media.sources.errors import Notice, NoticeCode, SourceError, SourceErrorCode
from media.sources.leads import STANDARD, is_renamed, standard_name, unique, wire_order
from media.sources.model import MAX_LEADS, Lead, Strip

MAX_LSB_NV: Final = 65_535
MAX_TOTAL_SAMPLES: Final = 40_000_000
"""Of all leads together: an hour of 16 leads at 500 Hz, or a day of one lead at 400 Hz."""
MIN_RATE, MAX_RATE = Fraction(1), Fraction(10_000)
ROUNDING: Final = Fraction(1, 1000)
"""A monitor's gain may be 5 % off [W26]; a thousandth is nothing."""

_MAX_GAIN: Final = Fraction(10**9)
"""A volt per step is no electrocardiograph; also keeps the arithmetic small."""

_MIN_GAIN: Final = Fraction(1, 1000)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Successive samples of one lead under one gain. Value in nanovolts = raw * ``nv_per_step`` + ``offset_nv``."""

    first: int
    raw: NDArray[np.int32]
    nv_per_step: Fraction
    offset_nv: Fraction = Fraction(0)


@dataclass(frozen=True, kw_only=True)
class RawLead:
    """One lead as a file holds it. Samples that no piece covers are missing."""

    found: str
    name: str = ""
    """Standard name, when the reader knows it from a code; else made from ``found``."""
    rate: Fraction
    length: int
    pieces: Sequence[Piece]
    invalid: NDArray[np.uint8]
    """Shape (length,): 0 or an `InvalidReason`; what no piece covers is made missing here."""
    notices: list[Notice] = field(default_factory=list)


def strips_of(
    raw_leads: Sequence[RawLead], notices: list[Notice], *, pace: tuple[int, ...] = (), offset_us: int = 0
) -> tuple[Strip, ...]:
    """Bring leads to strips in wire order; adds to ``notices`` what a person should know.

    Raises:
        SourceError: a rate or scale that cannot be carried, or too many samples.
    """
    for lead in raw_leads:
        _check(lead)
    if sum(lead.length for lead in raw_leads) > MAX_TOTAL_SAMPLES:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"more than {MAX_TOTAL_SAMPLES} samples")
    strips: list[Strip] = []
    by_rate: dict[tuple[Fraction, int], list[RawLead]] = {}
    for lead in raw_leads:
        by_rate.setdefault((lead.rate, lead.length), []).append(lead)
    for (rate, _), group in by_rate.items():
        if (rate * 1000).denominator != 1:
            notices.append(Notice(NoticeCode.RATE_ROUNDED, str(rate)))
        for part in _of_sixteen(_named(group, notices)):
            for scale, named in _scaled_groups(part, notices):
                strips.append(_strip(named, scale, rate, pace, offset_us, notices))
    if len(strips) > 1:
        notices.append(Notice(NoticeCode.SPLIT, f"{len(strips)} streams"))
    # The strip that is the 12-lead ECG, or most of one, leads.
    strips.sort(key=lambda s: -len(set(s.names) & set(STANDARD)))
    return tuple(strips)


def _check(lead: RawLead) -> None:
    if not MIN_RATE <= lead.rate <= MAX_RATE:
        raise SourceError(SourceErrorCode.RATE, f"{lead.found}: {float(lead.rate):g} Hz")
    for piece in lead.pieces:
        if not _MIN_GAIN <= abs(piece.nv_per_step) <= _MAX_GAIN or abs(piece.offset_nv) > 2**31 * _MAX_GAIN:
            raise SourceError(SourceErrorCode.SCALE_UNKNOWN, f"{lead.found}: {float(piece.nv_per_step):g} nV per step")
        assert piece.first >= 0, "a reader places its pieces"
        assert piece.first + len(piece.raw) <= lead.length, "a reader places its pieces"


@dataclass(frozen=True)
class _Named:
    name: str
    raw: RawLead

    @property
    def gains(self) -> set[Fraction]:
        return {abs(p.nv_per_step) for p in self.raw.pieces}


def _named(group: Sequence[RawLead], notices: list[Notice]) -> list[_Named]:
    names = unique(lead.name or standard_name(lead.found) for lead in group)
    for name, lead in zip(names, group, strict=True):
        if is_renamed(lead.found, name):
            notices.append(Notice(NoticeCode.LEAD_RENAMED, f"{lead.found[:40]} -> {name}"))
    return [_Named(names[row], group[row]) for row in wire_order(names)]


def _of_sixteen(named: list[_Named]) -> list[list[_Named]]:
    """At most 16 leads a stream; the twelve standard leads stay together and alone when a split is needed."""
    if len(named) <= MAX_LEADS:
        return [named]
    first = [n for n in named if n.name in STANDARD]
    rest = [n for n in named if n.name not in STANDARD]
    parts = [first] if first else []
    parts += [rest[at : at + MAX_LEADS] for at in range(0, len(rest), MAX_LEADS)]
    return parts


@dataclass(frozen=True)
class _Scale:
    lsb_nv: int
    """What the stream announces."""
    step: Fraction
    """What a step really is in the file: differs from ``lsb_nv`` where that had to be rounded to whole nanovolts."""


def _scaled_groups(named: list[_Named], notices: list[Notice]) -> list[tuple[_Scale, list[_Named]]]:
    scale = _exact(named) or _rounded(named, notices) or _finer(named, notices)
    if scale is not None:
        return [(scale, named)]
    groups: dict[frozenset[Fraction], list[_Named]] = {}
    for one in named:
        groups.setdefault(frozenset(one.gains), []).append(one)
    if len(groups) == 1:
        gains = ", ".join(f"{float(g):g} nV" for g in sorted(named[0].gains))
        raise SourceError(SourceErrorCode.SCALE_LOSSY, f"steps of {gains} do not fit 16 bits")
    return [part for group in groups.values() for part in _scaled_groups(group, notices)]


def _exact(named: list[_Named]) -> _Scale | None:
    gains = set().union(*(n.gains for n in named))
    if not gains:
        return _Scale(1000, Fraction(1000))  # nothing but missing samples: any scale is right
    denominator = lcm(*(g.denominator for g in gains))
    step = Fraction(gcd(*(int(g * denominator) for g in gains)), denominator)
    if step.denominator != 1 or step > MAX_LSB_NV:
        return None
    return _Scale(int(step), step) if _fits(named, step) else None


def _rounded(named: list[_Named], notices: list[Notice]) -> _Scale | None:
    gains = set().union(*(n.gains for n in named))
    if len(gains) != 1:
        return None
    gain = gains.pop()
    lsb = round(gain)
    if not 1 <= lsb <= MAX_LSB_NV or abs(gain - lsb) > gain * ROUNDING or not _fits(named, gain):
        return None
    if gain != lsb:
        notices.append(Notice(NoticeCode.SCALE_ROUNDED, f"{float(gain):.3f} nV -> {lsb} nV"))
    return _Scale(lsb, gain)


def _finer(named: list[_Named], notices: list[Notice]) -> _Scale | None:
    """The finest step under which everything fits, if every value of the file can be told apart in it."""
    smallest = min(g for n in named for g in n.gains)
    peak = max((_peak_nv(p) for n in named for p in n.raw.pieces), default=0.0)
    lsb = max(1, int(peak / 32_700) + 1)
    if lsb > smallest / 2 or lsb > MAX_LSB_NV:
        return None
    notices.append(Notice(NoticeCode.SCALE_FINER, f"{lsb} nV; the finest of the file is {float(smallest):.0f} nV"))
    return _Scale(lsb, Fraction(lsb))


def _peak_nv(piece: Piece) -> float:
    if not len(piece.raw):
        return 0.0
    ends = (int(piece.raw.min()), int(piece.raw.max()))
    return max(abs(end * float(piece.nv_per_step) + float(piece.offset_nv)) for end in ends)


def _fits(named: list[_Named], lsb: Fraction) -> bool:
    return all(_peak_nv(p) / float(lsb) <= 32_767.5 for n in named for p in n.raw.pieces)


def _strip(
    named: list[_Named], scale: _Scale, rate: Fraction, pace: tuple[int, ...], offset_us: int, notices: list[Notice]
) -> Strip:
    length = named[0].raw.length
    samples = np.zeros((len(named), length), np.int16)
    invalid = np.zeros((len(named), length), np.uint8)
    leads = []
    for row, one in enumerate(named):
        covered = np.zeros(length, np.bool_)
        leftover = Fraction(0)
        for piece in one.raw.pieces:
            span = slice(piece.first, piece.first + len(piece.raw))
            values, leftover = _steps(piece, scale.step)
            samples[row, span] = values
            covered[span] = True
        invalid[row] = one.raw.invalid
        invalid[row][~covered] = InvalidReason.MISSING
        if leftover:
            notices.append(Notice(NoticeCode.OFFSET_REMOVED, f"{one.name}: {float(leftover):.1f} nV"))
        gain = one.raw.pieces[0].nv_per_step if one.raw.pieces else scale.step
        leads.append(Lead(name=one.name, found=one.raw.found, nv_per_step=gain, offset_nv=leftover))
    strip = Strip(
        leads=tuple(leads), rate=rate, lsb_nv=scale.lsb_nv, samples=samples, invalid=invalid,
        pace=tuple(p for p in pace if 0 <= p < length), offset_us=offset_us,
    )  # fmt: skip
    return checks.checked(strip, notices)


def _steps(piece: Piece, step: Fraction) -> tuple[NDArray[np.int16], Fraction]:
    """A piece in steps, and what of its constant offset is left over (less than a step)."""
    ratio = piece.nv_per_step / step
    whole = round(piece.offset_nv / step)
    leftover = piece.offset_nv - whole * step
    if ratio.denominator == 1:
        values = piece.raw.astype(np.int64) * int(ratio) + whole
    else:  # a finer step: the nearest to the true value, offset included
        values = np.rint(piece.raw * float(ratio) + float(piece.offset_nv / step)).astype(np.int64)
        leftover = Fraction(0)
    if len(values) and not (int(values.min()) >= -32_768 and int(values.max()) <= 32_767):
        raise SourceError(SourceErrorCode.SCALE_LOSSY, "values exceed 16 bits")
    return values.astype(np.int16), leftover
