"""Sender reports for viewers: one time line per publisher, whatever its clock says.

A viewer lines up sound and picture of one cname by the NTP-RTP pairs of their sender reports. The
publisher's own pairs are exact against each other, but its clock may be hours off, and a viewer
who joins must not wait a report interval for the first one. So:

* `PublisherClock`, shared by all streams of one publisher, holds how far the publisher's NTP clock
  is from ours. Sharing is the point: an error in it moves sound and picture together.
* `SourceTime`, one per incoming SSRC, places an RTP timestamp on that line: from the last SR, or
  by arrival as long as none has come.
* `build_sender_report` extrapolates to now. Its NTP is our clock, so round trips follow from the
  viewer's LSR and DLSR without a table (RFC 3550 section 6.4.1).

``now_us`` is the server clock: microseconds since 1970, UTC, never going back.
"""

from collections.abc import Sequence
from typing import Final

from media.core import rtcp
from media.core.serial import HALF_32, MASK_32, diff32

NTP_UNIX_OFFSET_S: Final = 2_208_988_800
"""1900 to 1970 (RFC 868)."""
STEP_US: Final = 1_000_000
"""A publisher's clock this far off its estimate was set: follow at once."""
DRIFT_SHIFT: Final = 6
"""The estimate follows later arrivals by 1/64 of the difference: drift, not queueing."""
BASE_SHIFT: Final = 16


def ntp_from_us(unix_us: int) -> int:
    """64-bit NTP timestamp (32.32 fixed point) of a Unix time in microseconds."""
    seconds, micros = divmod(unix_us, 1_000_000)
    return ((seconds + NTP_UNIX_OFFSET_S) & MASK_32) << 32 | (micros << 32) // 1_000_000


def us_from_ntp(ntp: int) -> int:
    """Unix time in microseconds of a 64-bit NTP timestamp of era 0 (to 2036), rounded."""
    return ((ntp >> 32) - NTP_UNIX_OFFSET_S) * 1_000_000 + ((ntp & MASK_32) * 1_000_000 + (1 << 31) >> 32)


def compact_ntp(ntp: int) -> int:
    """Middle 32 bits: 16.16 seconds, as LSR and LRR carry them."""
    return ntp >> 16 & MASK_32


def round_trip_us(now_us: int, lsr: int, dlsr: int) -> int | None:
    """Round trip from a report block or DLRR that answers a report of ours.

    Args:
        now_us: when the block arrived.
        lsr: compact NTP of our report, 0 when the peer has had none.
        dlsr: what the peer waited, 1/65536 s.

    Returns:
        Microseconds, at least 1; None without LSR, or when the answer cannot be true
        (before the report, or above 30 s).
    """
    if lsr == 0:
        return None
    ticks = diff32((compact_ntp(ntp_from_us(now_us)) - dlsr) & MASK_32, lsr)
    if ticks < -66 or ticks > 30 << 16:  # rounding of both clocks may give a few ticks below zero
        return None
    return max(1, ticks * 1_000_000 >> BASE_SHIFT)


class PublisherClock:
    """Publisher's NTP clock minus ours, transit included."""

    __slots__ = ("epoch", "offset_us")

    def __init__(self) -> None:
        self.offset_us = 0
        self.epoch = 0
        """Grows when the clock was set: reports of an earlier epoch mean nothing. 0 before any report."""

    def observe(self, source_us: int, now_us: int) -> None:
        """A report written at ``source_us`` (publisher's clock) arrived at ``now_us``.

        The least delayed arrival is the best estimate, so an earlier one is taken at once and a
        later one only slowly.
        """
        change = source_us - now_us - self.offset_us
        if self.epoch == 0 or abs(change) > STEP_US:
            self.offset_us += change
            self.epoch += 1
        else:
            self.offset_us += change if change > 0 else change >> DRIFT_SHIFT


class SourceTime:
    """Where the RTP timestamps of one incoming SSRC lie in time."""

    __slots__ = ("_clock", "_epoch", "_rate_hz", "_report_timestamp", "_report_us", "_seen_timestamp", "_seen_us")

    def __init__(self, clock_rate_hz: int, clock: PublisherClock) -> None:
        self._rate_hz = clock_rate_hz
        self._clock = clock
        self._seen_us = -1
        self._seen_timestamp = 0
        self._epoch = -1
        self._report_us = 0
        self._report_timestamp = 0

    def on_packet(self, timestamp: int, now_us: int) -> None:
        """A packet came in; the newest is the reference until a sender report comes."""
        if self._seen_us < 0 or 0 < (timestamp - self._seen_timestamp) & MASK_32 < HALF_32:  # serial.newer32
            self._seen_timestamp = timestamp
            self._seen_us = now_us

    def on_packets(self, timestamps: Sequence[int], times_us: Sequence[int]) -> None:
        """`on_packet` for several, in order."""
        newest = self._seen_timestamp
        for timestamp, now_us in zip(timestamps, times_us, strict=True):
            if timestamp != newest or self._seen_us < 0:
                self.on_packet(timestamp, now_us)
                newest = self._seen_timestamp

    @property
    def newest(self) -> tuple[int, int] | None:
        """Newest timestamp and when it came; None before a packet."""
        return None if self._seen_us < 0 else (self._seen_timestamp, self._seen_us)

    def on_sender_report(self, ntp: int, timestamp: int, now_us: int) -> None:
        """The publisher's own pair; an NTP of 0 means it has no clock (RFC 3550 section 6.4.1)."""
        if ntp == 0:
            return
        self._report_us = us_from_ntp(ntp)
        self._report_timestamp = timestamp
        self._clock.observe(self._report_us, now_us)
        self._epoch = self._clock.epoch

    def timestamp_at(self, now_us: int) -> int | None:
        """RTP timestamp of this moment; None before the first packet or report."""
        if self._epoch == self._clock.epoch:
            elapsed_us = now_us + self._clock.offset_us - self._report_us
            return (self._report_timestamp + elapsed_us * self._rate_hz // 1_000_000) & MASK_32
        if self._seen_us < 0:
            return None
        return (self._seen_timestamp + (now_us - self._seen_us) * self._rate_hz // 1_000_000) & MASK_32

    def time_of(self, timestamp: int) -> int | None:
        """Server clock time in microseconds of a timestamp within half the 32-bit circle; None before anything came."""
        if self._epoch == self._clock.epoch:
            ticks = diff32(timestamp, self._report_timestamp)
            return self._report_us - self._clock.offset_us + ticks * 1_000_000 // self._rate_hz
        if self._seen_us < 0:
            return None
        return self._seen_us + diff32(timestamp, self._seen_timestamp) * 1_000_000 // self._rate_hz


def build_sender_report(
    source: SourceTime, now_us: int, ssrc: int, timestamp_shift: int, packets: int, octets: int, cname: str
) -> bytes | None:
    """SR and SDES for one viewer, extrapolated to now.

    Args:
        source: time line of the SSRC this viewer gets.
        ssrc: the viewer's SSRC.
        timestamp_shift: what the viewer's numbering adds to the source's timestamps.
        packets: RTP packets sent to this viewer so far.
        octets: payload bytes sent, headers and padding not counted.
        cname: the publisher's, the same for its sound and picture.

    Returns:
        A compound packet; None while the source has sent nothing that a time could be put on.
    """
    timestamp = source.timestamp_at(now_us)
    if timestamp is None:
        return None
    shifted = (timestamp + timestamp_shift) & MASK_32
    return rtcp.build_sender_report(ssrc, ntp_from_us(now_us), shifted, packets, octets) + rtcp.build_sdes(ssrc, cname)
