"""Make the capacity traces beside this file: ``python -m tests.vectors.network.generate``.

They are synthetic, shaped after what is published of such lines (slow log-normal fading, handovers,
roaming gaps), not recordings of anybody's. One line is ``ms bps``: from this time on the line carries so much.
"""

from math import exp
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent


def fading(random: Random, seconds: int, step_ms: int, mean_bps: int, spread: float, memory: float) -> list[int]:
    """Log-normal values, each remembering the one before."""
    level, values = 0.0, []
    for _ in range(seconds * 1000 // step_ms):
        level = memory * level + random.gauss(0, spread * (1 - memory**2) ** 0.5)
        values.append(int(mean_bps * exp(level)))
    return values


def lte_ambulance() -> tuple[int, list[int]]:
    """A moving car: 3.5 Mbit/s that fade by a factor of two, a handover every 25 s takes nearly all for a second."""
    random, step_ms = Random(20_261), 200
    values = fading(random, 60, step_ms, 3_500_000, 0.45, 0.97)
    for start in (21_000, 46_000):
        for index in range(start // step_ms, (start + 1_000) // step_ms):
            values[index] = 150_000
    return step_ms, values


def lte_ward() -> tuple[int, list[int]]:
    """A tablet that stands still behind a wall: 1.6 Mbit/s, fading quickly but not far."""
    return 200, fading(Random(20_262), 60, 200, 1_600_000, 0.18, 0.8)


def wifi_roaming() -> tuple[int, list[int]]:
    """A cart on a corridor: 12 Mbit/s, and two gaps of 600 ms between access points with slow edges."""
    step_ms = 200
    values = fading(Random(20_263), 60, step_ms, 12_000_000, 0.25, 0.9)
    for start in (18_000, 43_000):
        first = start // step_ms
        for index in range(first - 15, first + 10):
            values[index] //= 6
        for index in range(first, first + 3):
            values[index] = 60_000
    return step_ms, values


def main() -> None:
    for trace in (lte_ambulance, lte_ward, wifi_roaming):
        step_ms, values = trace()
        rows = [f"# {(trace.__doc__ or '').strip()}"]
        rows += [f"{index * step_ms} {value}" for index, value in enumerate(values)]
        (FOLDER / f"{trace.__name__}.txt").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
