"""Loss decides what a REMB-only publisher may send."""

from media.core.remb import CEILING_BPS, FLOOR_BPS, LossBasedEstimate


def test_no_loss_stays_at_the_ceiling() -> None:
    assert LossBasedEstimate().update(0.0) == CEILING_BPS


def test_high_loss_backs_off_and_recovers() -> None:
    estimate = LossBasedEstimate()

    assert estimate.update(0.5) == CEILING_BPS * 3 // 4
    assert estimate.update(0.05) == CEILING_BPS * 3 // 4
    for _ in range(20):
        estimate.update(0.0)
    assert estimate.bitrate_bps == CEILING_BPS


def test_it_never_starves_a_publisher() -> None:
    estimate = LossBasedEstimate()
    for _ in range(100):
        estimate.update(1.0)

    assert estimate.bitrate_bps == FLOOR_BPS
