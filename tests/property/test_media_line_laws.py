"""A viewer's line in a closed loop: used well, short queue, and no oscillation, whatever the network does.

Every run is seeded and in virtual time (`tests.line_simulation`), so the figures are the same each time;
the bounds leave room for a better trade, not for luck.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from media.core.congestion.allocator import Demand
from media.core.layers import View
from tests.line_simulation import CAMERA, Figures, Simulation
from tests.netem import (
    GilbertElliott,
    Link,
    Loss,
    Rate,
    constant,
    cut,
    load_deliveries,
    load_rate,
    no_loss,
    random_loss,
)

M = 1_000_000
RECORDED = os.environ.get("CONSILIUM_TRACES", "")
"""Folder of recorded lines, in the form of `load_deliveries`; published ones may not be copied into this tree."""
TRACES = Path(__file__).parent.parent / "vectors" / "network"


@dataclass(frozen=True)
class Case:
    """One network and what must come of it over 90 s after the first ten."""

    rate: Callable[[], Rate]
    granted: float
    """Least share of what an allocator that knows the line would give to the pictures."""
    queue_ms: float
    """Most that 95 % of the packets wait at the bottleneck."""
    switches: float
    """Most changes a minute, of all four pictures together."""
    loss: Callable[[], Loss] = lambda: no_loss
    back: Callable[[], Loss] = lambda: no_loss
    jitter_us: int = 0
    delay_us: int = 20_000
    queue_us: int = 300_000
    competitor: tuple[int, int, int] | None = None


def trace(name: str) -> Callable[[], Rate]:
    return lambda: load_rate(TRACES / name)


def sawtooth() -> Rate:
    return Rate([(second * M, int(M * (0.6 + 0.2 * second))) for second in range(10)], period_us=10 * M)


CASES = {
    "300 kbit/s": Case(lambda: constant(300_000), 0.5, 100, 3),
    "1 Mbit/s": Case(lambda: constant(M), 0.75, 60, 6),
    "2 Mbit/s": Case(lambda: constant(2 * M), 0.7, 60, 6),
    "10 Mbit/s": Case(lambda: constant(10 * M), 0.99, 20, 0),
    "step down": Case(lambda: Rate([(0, 3 * M), (30 * M, 800_000)]), 0.85, 60, 10),
    "step up": Case(lambda: Rate([(0, 800_000), (30 * M, 4 * M)]), 0.75, 60, 10),
    "sawtooth": Case(sawtooth, 0.3, 250, 30),
    "Wi-Fi jitter": Case(lambda: constant(3 * M), 0.8, 60, 10, jitter_us=8_000),
    "5 % loss": Case(lambda: constant(2 * M), 0.7, 60, 6, loss=lambda: random_loss(0.05)),
    "bursts of loss": Case(lambda: constant(2 * M), 0.7, 60, 10, loss=lambda: GilbertElliott(0.01, 0.3)),
    "lost feedback": Case(lambda: constant(2 * M), 0.65, 60, 6, back=lambda: random_loss(0.2)),
    "competing flow": Case(lambda: constant(3 * M), 0.8, 60, 12, competitor=(30 * M, 60 * M, 1_500_000)),
    "cut for 30 s": Case(lambda: constant(3 * M), 0.5, 60, 16, loss=lambda: cut(20 * M, 50 * M)),
    "small buffer": Case(lambda: constant(2 * M), 0.7, 40, 12, queue_us=40_000),
    "huge buffer": Case(lambda: constant(M), 0.75, 60, 6, queue_us=2 * M),
    "far away": Case(lambda: constant(2 * M), 0.7, 80, 6, delay_us=150_000),
    "LTE in a car": Case(trace("lte_ambulance.txt"), 0.3, 250, 35),
    "LTE on a ward": Case(trace("lte_ward.txt"), 0.65, 80, 18),
    "Wi-Fi roaming": Case(trace("wifi_roaming.txt"), 0.65, 120, 35),
}


def play(case: Case, *, seed: int = 3, seconds: float = 100) -> Figures:
    down = Link(seed, case.rate(), case.queue_us, case.delay_us, case.jitter_us, case.loss())
    up = Link(seed + 1, delay_us=case.delay_us, loss=case.back())
    return Simulation(down, up, seed=seed).run(seconds, competitor=case.competitor)


@pytest.mark.parametrize("name", CASES)
def test_the_line_is_used_with_a_short_queue_and_without_oscillation(name: str) -> None:
    case = CASES[name]
    figures = play(case)
    assert figures.granted >= case.granted
    assert figures.queue_percentile_ms(0.95) <= case.queue_ms
    assert figures.switches_per_minute <= case.switches
    assert figures.overspent == 0, "never more than the estimate, but for the last layer"
    assert figures.probe_bytes < 0.1 * figures.media_bytes


def test_recorded_lines_keep_a_short_queue() -> None:
    """Mobile networks of cars and trains. What fades away within a second cannot be followed faster."""
    if not RECORDED:
        pytest.skip("no recorded lines: CONSILIUM_TRACES names no folder")
    files = sorted(path for path in Path(RECORDED).iterdir() if path.suffix in {".down", ".up"} and path.stat().st_size)
    assert files
    for path in files:
        case = Case(lambda path=path: load_deliveries(path, from_ms=20_000), 0, 0, 0)  # type: ignore[misc]
        figures = play(case)
        assert figures.overspent == 0, path
        assert figures.queue_percentile_ms(0.5) <= 30, path
        assert figures.switches_per_minute <= 40, path
        if figures.media_bytes * 8 / figures.seconds > 500_000:
            assert figures.queue_percentile_ms(0.95) <= 300, path
            assert figures.granted >= 0.3, path


def test_on_a_good_line_everything_is_there_within_seconds() -> None:
    figures = play(CASES["10 Mbit/s"], seconds=12)
    assert 0 <= figures.first_full_us < 5 * M


def test_on_a_steady_line_the_picture_comes_to_rest() -> None:
    """In the second minute hardly anything is switched, whatever the line carries."""
    changes = {}
    for kbps in range(200, 3_400, 800):
        figures = play(Case(lambda kbps=kbps: constant(kbps * 1000), 0, 0, 0), seed=kbps, seconds=130)  # type: ignore[misc]
        changes[kbps] = len([change for change in figures.changes if change[0] > 70 * M])
    assert max(changes.values()) <= 6
    assert sum(changes.values()) <= 2 * len(changes)


def test_what_is_looked_at_is_the_last_to_go() -> None:
    """While the line falls from 3 Mbit/s to 150 kbit/s no main picture is dark before every tile is."""
    rate = Rate([(second * 4 * M, max(150_000, int(3 * M * 0.8**second))) for second in range(20)])
    demands = [
        Demand("tile", CAMERA, 3, "camera", View(320, 180, "tile")),
        Demand("main", CAMERA, 3, "camera", View(1280, 720, "main")),
    ]
    simulation = Simulation(Link(1, rate), Link(2), demands=demands)
    figures = simulation.run(80)
    shown = {"tile": -1, "main": -1}
    for _, consumer, target in figures.changes:
        shown[consumer] = target.spatial
    assert shown["main"] >= 0
    assert all(target.spatial >= 0 for _, consumer, target in figures.changes if consumer == "main")
    assert shown["tile"] == -1


@dataclass(frozen=True)
class Shared:
    """A line that a TCP download fills for half a minute, and what is left of the pictures on it meanwhile."""

    rate_bps: int
    queue_us: int
    least_bps: int
    """Mean estimate during the download."""


SHARED = {
    "4 Mbit/s, short buffer": Shared(4 * M, 60_000, 1_000_000),
    "4 Mbit/s": Shared(4 * M, 300_000, 350_000),
    "8 Mbit/s": Shared(8 * M, 300_000, 400_000),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_download_takes_its_part_and_no_more(name: str) -> None:
    """What is looked at stays, the download gets at least half, and half a minute after it all is as before."""
    case = SHARED[name]
    simulation = Simulation(Link(3, constant(case.rate_bps), case.queue_us), Link(4, delay_us=20_000), seed=3)
    figures = simulation.run(80, download=(20 * M, 50 * M))
    during = [estimate for when, estimate in figures.estimates if 25 * M <= when < 50 * M]
    assert sum(during) / len(during) >= case.least_bps
    dark = [when for when, consumer, target in figures.changes if consumer == "main" and target.spatial < 0]
    assert not [when for when in dark if when > 20 * M]
    assert simulation.download.delivered * 1200 * 8 / 30 >= case.rate_bps / 2
    assert min(estimate for when, estimate in figures.estimates if when > 75 * M) > 2_900_000


def test_a_recording_of_deliveries_is_read_as_a_rate(tmp_path: Path) -> None:
    (tmp_path / "line.down").write_text("".join(f"{ms}\n" for ms in (*range(100), 250, 250)))
    rate = load_deliveries(tmp_path / "line.down")
    assert [rate.at(ms * 1000) for ms in (0, 99, 100, 299, 300)] == [12 * M, 12 * M, 8_000, 240_000, 12 * M]
