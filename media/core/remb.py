"""How much a publisher may send, from its loss alone.

For publishers that negotiate goog-remb but not transport-cc (pymediasoup): without any feedback an
encoder stays at its start rate, and with a fixed one it ignores a congested uplink. The rule is the
loss-based half of Google congestion control (draft-ietf-rmcat-gcc-02 section 6).

The message is ``rtcp.build_remb``.
"""

from typing import Final

CEILING_BPS: Final = 4_000_000
"""720p30 of a consult needs 1.5 to 2.5 Mbit/s; a document camera more."""
FLOOR_BPS: Final = 150_000
HIGH_LOSS: Final = 0.10
LOW_LOSS: Final = 0.02


class LossBasedEstimate:
    """Allowed bitrate of one publishing Transport."""

    def __init__(self) -> None:
        self.bitrate_bps = CEILING_BPS

    def update(self, fraction_lost: float) -> int:
        """Take the loss of the last second (0 to 1); the bitrate to announce."""
        if fraction_lost > HIGH_LOSS:
            self.bitrate_bps = max(FLOOR_BPS, int(self.bitrate_bps * (1 - 0.5 * fraction_lost)))
        elif fraction_lost < LOW_LOSS:
            self.bitrate_bps = min(CEILING_BPS, int(self.bitrate_bps * 1.05) + 1)
        return self.bitrate_bps
