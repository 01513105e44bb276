"""Transport-wide feedback with every status written out: what the tests compare.

Not for the relay: a few bytes may claim 65535 losses.
"""

from dataclasses import dataclass

from media.core.rtcp import Buffer
from media.core.serial import add16
from media.core.twcc import TICK_US, TICKS_PER_REFERENCE, read_feedback


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """One feedback."""

    base_seq: int
    count: int
    """Feedback number of the sender, modulo 256: a hole means a lost feedback."""
    reference_us: int
    """Signed 24 bits of 64 ms."""
    arrivals: tuple[tuple[int, int | None], ...]
    """(transport-wide number, arrival in microseconds on the receiver's clock or None when lost), in order."""


def parse_feedback(fci: Buffer) -> FeedbackReport:
    """Write out what `read_feedback` reads.

    Raises:
        MalformedRtcp: as that.
    """
    feedback = read_feedback(fci)
    reference = (feedback.reference ^ 0x80_0000) - 0x80_0000
    came = dict(zip(feedback.offsets, feedback.ticks, strict=True))
    start = reference * TICKS_PER_REFERENCE
    arrivals = tuple(
        (add16(feedback.base_seq, offset), (start + came[offset]) * TICK_US if offset in came else None)
        for offset in range(feedback.statuses)
    )
    return FeedbackReport(feedback.base_seq, feedback.count, start * TICK_US, arrivals)
