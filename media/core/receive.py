"""What the relay knows of one incoming SSRC: loss, jitter, duplicates, what to ask for again.

`ReceiveStream.on_packet` runs for every packet and answers whether to forward it. The counts
follow RFC 3550 appendix A (A.1 validity, A.3 loss, A.8 jitter) and come out as report blocks.
Holes go to `NackList`: asked for at once, then again each round trip, for a limited time; a hole
too wide to repair asks for a key frame instead.

Retransmissions on an RTX SSRC enter through `on_repaired`: they fill holes but are no reception of
this SSRC, so the publisher still learns its true loss.

``now_us`` is the server clock. Numbers here are extended (never wrap); 16 bits only at the border.
"""

from collections.abc import Sequence
from typing import Final

from media.core.rtcp import ReportBlock
from media.core.sender_report import compact_ntp
from media.core.serial import HALF_16, MASK_16, MASK_32, add16

STALE: Final = 0
"""Duplicate or too old: drop it."""
FRESH: Final = 1
"""Forward it."""
FRESH_AFTER_GAP: Final = 2
"""Forward it; packets before it are missing: call ``nacks_due`` and ``take_key_frame_request``."""

MAX_DROPOUT: Final = 3000
"""A jump further ahead is a restart of the numbering if the next packet confirms it (RFC 3550 A.1)."""
WINDOW: Final = 2048
"""Numbers remembered behind the highest; a power of two. What is older counts as a duplicate."""

MAX_NACK_GAP: Final = 256
"""Wider holes are not repaired: a key frame is smaller than what is lost."""
MAX_NACKS: Final = 512
MAX_NACK_TRIES: Final = 10
MAX_NACK_AGE_US: Final = 1_000_000
"""A viewer's jitter buffer has given up by then."""
MIN_RETRY_US: Final = 20_000
MAX_RETRY_US: Final = 100_000
MAX_NACK_BATCH: Final = 250
"""Numbers in one message: at worst 1 kB of PID+BLP pairs."""


class _Missing:
    """One number asked for."""

    __slots__ = ("asked_us", "since_us", "tries")

    def __init__(self, now_us: int) -> None:
        self.since_us = now_us
        self.asked_us = 0
        self.tries = 0


class NackList:
    """Missing numbers of one stream and when to ask for each."""

    __slots__ = ("_key_frame_needed", "_missing")

    def __init__(self) -> None:
        self._missing: dict[int, _Missing] = {}
        self._key_frame_needed = False

    def __len__(self) -> int:
        return len(self._missing)

    def add_gap(self, first: int, stop: int, now_us: int) -> None:
        """Numbers ``first`` to ``stop - 1`` (extended) were skipped.

        More than ``MAX_NACK_GAP`` at once or ``MAX_NACKS`` in all: give up all of them and want a
        key frame.
        """
        if stop - first > MAX_NACK_GAP or len(self._missing) + stop - first > MAX_NACKS:
            self._missing.clear()
            self._key_frame_needed = True
            return
        for number in range(first, stop):
            self._missing[number] = _Missing(now_us)

    def found(self, number: int) -> None:
        """The number came; unknown numbers are ignored."""
        self._missing.pop(number, None)

    def forget_before(self, number: int) -> None:
        """A key frame starts at ``number``: nothing older is worth repairing."""
        for old in [known for known in self._missing if known < number]:
            del self._missing[old]

    def reset(self) -> None:
        """The numbering began anew: nothing of the old is missing, the picture is."""
        self._missing.clear()
        self._key_frame_needed = True

    def due(self, now_us: int, rtt_us: int) -> list[int]:
        """16-bit numbers to ask for now, oldest first, at most ``MAX_NACK_BATCH``.

        A number is asked for when it is new, and again after ``rtt_us`` (kept between 20 and
        100 ms); after ``MAX_NACK_TRIES`` or ``MAX_NACK_AGE_US`` it is given up and a key frame wanted.
        """
        retry_us = min(MAX_RETRY_US, max(MIN_RETRY_US, rtt_us))
        due: list[int] = []
        hopeless: list[int] = []
        for number, missing in self._missing.items():
            if missing.tries and now_us - missing.asked_us < retry_us:
                continue
            if missing.tries >= MAX_NACK_TRIES or now_us - missing.since_us > MAX_NACK_AGE_US:
                hopeless.append(number)
            elif len(due) < MAX_NACK_BATCH:
                missing.tries += 1
                missing.asked_us = now_us
                due.append(number & MASK_16)
        for number in hopeless:
            del self._missing[number]
            self._key_frame_needed = True
        return due

    def take_key_frame_request(self) -> bool:
        """Some loss will not be repaired; true once per occasion."""
        needed = self._key_frame_needed
        self._key_frame_needed = False
        return needed


class ReceiveStream:
    """Reception of one SSRC."""

    __slots__ = (
        "_bad_seq",
        "_base",
        "_expected_prior",
        "_jitter_q4",
        "_last_transit",
        "_lsr",
        "_lsr_us",
        "_nacks",
        "_rate_hz",
        "_received_prior",
        "_seen",
        "duplicates",
        "highest",
        "payload_bytes",
        "received",
        "ssrc",
    )

    def __init__(self, ssrc: int, clock_rate_hz: int, *, nack: bool) -> None:
        """Start with no packet seen.

        Args:
            nack: ask for lost packets; only when the publisher negotiated it.
        """
        self.ssrc = ssrc
        self.highest = -1
        """Extended number of the latest packet; -1 before the first."""
        self.received = 0
        """Packets, late ones and duplicates included (RFC 3550 A.3)."""
        self.duplicates = 0
        """Packets answered with ``STALE``."""
        self.payload_bytes = 0
        self._rate_hz = clock_rate_hz
        self._nacks = NackList() if nack else None
        self._seen: list[int] = []
        self._base = 0
        self._bad_seq = -1
        self._expected_prior = 0
        self._received_prior = 0
        self._last_transit = 0
        self._jitter_q4 = 0
        self._lsr = 0
        self._lsr_us = 0

    def on_packet(self, seq: int, timestamp: int, size_bytes: int, now_us: int) -> int:
        """Count one packet of this SSRC, padding-only ones included.

        Returns:
            ``STALE`` (falsy), ``FRESH`` or ``FRESH_AFTER_GAP``.
        """
        highest = self.highest
        if seq == highest + 1 & MASK_16 and highest >= 0:
            self.advance(highest + 1, timestamp, size_bytes, now_us)  # as nearly always
            return FRESH
        if highest < 0:
            self._restart(seq)
            highest = self.highest
        number = highest + ((seq - highest + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        delta = number - highest
        restarted = delta > MAX_DROPOUT or delta <= -WINDOW
        if restarted:
            if not self._confirms_restart(seq):
                self.received += 1
                self.duplicates += 1
                return STALE
            number = self.highest + 1
            delta = 1
        slot = number & WINDOW - 1
        if delta <= 0:
            self.received += 1
            if self._seen[slot] == number:
                self.duplicates += 1
                return STALE
            self._seen[slot] = number
            if number < self._base:
                self._base = number  # overtaken by what we took for the first
            self.payload_bytes += size_bytes
            if self._nacks is not None:
                self._nacks.found(number)
            return FRESH
        self.advance(number, timestamp, size_bytes, now_us)
        if restarted:
            return FRESH_AFTER_GAP
        if delta == 1:
            return FRESH
        if self._nacks is not None:
            self._nacks.add_gap(highest + 1, number, now_us)
        return FRESH_AFTER_GAP

    def advance(self, number: int, timestamp: int, size_bytes: int, now_us: int) -> None:
        """A packet later than all before it came; the caller knows that nothing is missing before it."""
        self.received += 1
        self._seen[number & WINDOW - 1] = number
        self.highest = number
        self.payload_bytes += size_bytes
        # RFC 3550 A.8, in packets that are the latest only: a repaired packet's delay is not jitter.
        transit = (now_us * self._rate_hz // 1_000_000 - timestamp) & MASK_32
        if self.received > 1:
            change = transit - self._last_transit
            change = abs((change + 0x8000_0000 & MASK_32) - 0x8000_0000)
            self._jitter_q4 += change - (self._jitter_q4 + 8 >> 4)
        self._last_transit = transit

    def advance_all(self, timestamps: Sequence[int], size_bytes: int, times_us: Sequence[int]) -> None:
        """`advance` for packets that follow each other: the timestamp of each and when it came, the bytes of all."""
        number, received, rate_hz = self.highest, self.received, self._rate_hz
        seen, jitter_q4, last_transit = self._seen, self._jitter_q4, self._last_transit
        for timestamp, now_us in zip(timestamps, times_us, strict=True):
            number += 1
            seen[number & WINDOW - 1] = number
            transit = (now_us * rate_hz // 1_000_000 - timestamp) & MASK_32
            if received:
                change = abs((transit - last_transit + 0x8000_0000 & MASK_32) - 0x8000_0000)
                jitter_q4 += change - (jitter_q4 + 8 >> 4)
            received += 1
            last_transit = transit
        self.highest, self.received, self._jitter_q4, self._last_transit = number, received, jitter_q4, last_transit
        self.payload_bytes += size_bytes

    def _restart(self, seq: int) -> None:
        """Begin the numbering so that ``seq`` is the next; one cycle up, so nothing is negative."""
        self._base = seq + MASK_16 + 1
        self.highest = self._base - 1
        self._bad_seq = -1
        self._seen = [-1] * WINDOW
        self.received = self._received_prior = self._expected_prior = 0

    def _confirms_restart(self, seq: int) -> bool:
        """Two packets in order far from the rest: the sender restarted (RFC 3550 A.1)."""
        if seq != self._bad_seq:
            self._bad_seq = add16(seq, 1)
            return False
        self._restart(seq)
        if self._nacks is not None:
            self._nacks.reset()
        return True

    def on_repaired(self, seq: int) -> int:
        """A retransmission (RTX, unwrapped) of this SSRC's number came.

        Returns:
            ``FRESH`` when it fills a hole, else ``STALE``.
        """
        highest = self.highest
        if highest < 0:
            return STALE
        number = highest + ((seq - highest + HALF_16) & MASK_16) - HALF_16  # serial.extend16
        slot = number & WINDOW - 1
        if not highest - WINDOW < number <= highest or number < self._base or self._seen[slot] == number:
            return STALE
        self._seen[slot] = number
        if self._nacks is not None:
            self._nacks.found(number)
        return FRESH

    def on_key_frame(self, seq: int) -> None:
        """A key frame starts at this number: older holes need no repair."""
        if self._nacks is not None and len(self._nacks) and self.highest >= 0:
            self._nacks.forget_before(self.highest + ((seq - self.highest + HALF_16) & MASK_16) - HALF_16)

    @property
    def missing(self) -> int:
        """Packets still asked for."""
        return len(self._nacks) if self._nacks is not None else 0

    def nacks_due(self, now_us: int, rtt_us: int) -> list[int]:
        """Numbers for `rtcp.build_nack` now; call after ``FRESH_AFTER_GAP`` and every 20 ms while ``missing``."""
        return self._nacks.due(now_us, rtt_us) if self._nacks is not None else []

    def take_key_frame_request(self) -> bool:
        """Loss that will not be repaired; true once per occasion."""
        return self._nacks is not None and self._nacks.take_key_frame_request()

    def on_sender_report(self, ntp: int, now_us: int) -> None:
        """Remember the publisher's last report for LSR and DLSR."""
        self._lsr = compact_ntp(ntp)
        self._lsr_us = now_us

    @property
    def jitter(self) -> int:
        """Interarrival jitter in RTP clock units."""
        return self._jitter_q4 >> 4

    @property
    def cumulative_lost(self) -> int:
        """Expected less received since the start; duplicates make it negative."""
        return self.highest + 1 - self._base - self.received if self.highest >= 0 else 0

    def report_block(self, now_us: int) -> ReportBlock | None:
        """Block for the next RR; fraction lost is since the last call. None before the first packet."""
        if self.highest < 0:
            return None
        expected = self.highest + 1 - self._base
        expected_now = expected - self._expected_prior
        lost_now = expected_now - (self.received - self._received_prior)
        self._expected_prior = expected
        self._received_prior = self.received
        fraction = (lost_now << 8) // expected_now if expected_now > 0 and lost_now > 0 else 0
        dlsr = max(0, now_us - self._lsr_us) * 65_536 // 1_000_000 & MASK_32 if self._lsr else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(255, fraction),
            cumulative_lost=expected - self.received,
            highest_seq=(self.highest - MASK_16 - 1) & MASK_32,
            jitter=self.jitter,
            lsr=self._lsr,
            dlsr=dlsr,
        )
