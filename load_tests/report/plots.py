"""The eight plots of a run (WEB_AND_OPS section 5.2), each from the record; one with nothing to show says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from load_tests.bench.soak import slope_per_hour
from load_tests.report.histogram import Histogram, merged
from load_tests.report.recovery import recoveries
from load_tests.report.svg import Axis, Plot, Point, number
from load_tests.run.conduct import Record

STAGES: Final = ("sign_in", "token", "socket", "enter", "transport", "ice", "dtls")
HEAT_ROWS: Final = 24
KNEE: Final = 1.5
"""The knee is where the cost of a packet has grown to so many times what it was in the cheapest fifth."""
WIDER: Final = 1.2
KNEE_SAMPLES: Final = 3
"""A knee is no single sample, and none of a load that hardly changes."""
RASTER_ROWS: Final = 60
STEADY_S: Final = 60.0
"""A memory slope over less is noise."""


def all_plots(record: Record, earlier: Sequence[dict[str, Any]]) -> dict[str, Plot]:
    """By file name. ``earlier``: summaries of earlier runs of this scenario, oldest first, this one last."""
    further = {f"6-recovery-{number}": recovery(record, number) for number in range(2, len(record.faults) + 1)}
    return {
        "1-load": load(record), "2-cost": cost(record), "3-join": join(record), "4-forward": heat(record),
        "5-ecg": ecg(record), "6-recovery": recovery(record), **further, "7-memory": memory(record),
        "8-trend": trend(earlier), **({"9-lock": lock(record)} if record.scenario.hospitals else {}),
    }  # fmt: skip


def lock(record: Record) -> Plot:
    """Of a run with gateways: what waits in them, and what their hospitals were told is taken."""
    waiting = [(one["t"], one["lock_waiting"]) for one in record.server if "lock_waiting" in one]
    taken = [(float(at), float(counts.get("lock_taken", 0))) for at, counts in sorted(record.counts.items())]
    most = max([1.0, *(y for _, y in waiting), *(y for _, y in taken)])
    plot = Plot("Through the lock", Axis("s", 0, record.length_s), Axis("messages", 0, most * 1.1))
    plot.area(waiting, "c3", "waiting in gateways")
    plot.line(taken, "c1", "taken, a second")
    _mark_faults(plot, record)
    return plot


def totals_by_look(record: Record) -> list[tuple[float, list[float]]]:
    """The curve of all generators together, in steps of half a second: mean of each one's looks, then added."""
    hands = max(1, len(record.hands))
    steps: dict[int, list[list[float]]] = {}
    for look in record.curve:
        if 0 <= look[0] <= record.length_s + 1:
            steps.setdefault(int(look[0] * 2), []).append(look[1:])
    return [
        (step / 2, [sum(column) / len(looks) * hands for column in zip(*looks, strict=True)])
        for step, looks in sorted(steps.items())
    ]


def load(record: Record) -> Plot:
    """(1) Load and success over time."""
    curve = totals_by_look(record)
    planned = _planned(record)
    most = max([1.0, *(values[0] for _, values in curve), *(y for _, y in planned)])
    plot = Plot("Load and success", Axis("s", 0, record.length_s), Axis("sessions", 0, most * 1.1))
    plot.line(planned, "c5", "planned")
    plot.area([(at, values[1]) for at, values in curve], "c1", "joined")
    plot.line([(at, values[2]) for at, values in curve if values[3]], "c2", "with picture")
    plot.line([(at, values[4]) for at, values in curve if values[5]], "c3", "with ECG")
    errors = [(float(at), most * 0.02) for at, counts in record.counts.items() if counts.get("errors")]
    plot.points(errors, "c4", "errors")
    _mark_faults(plot, record)
    return plot


def _planned(record: Record) -> list[Point]:
    changes = sorted([(one.at_s, 1) for one in record.planned] + [(one.until_s, -1) for one in record.planned])
    points, now = [(0.0, 0.0)], 0
    for at_s, change in changes:
        points.append((at_s, float(now)))
        now += change
        points.append((at_s, float(now)))
    return [point for point in points if point[0] <= record.length_s]


def cost(record: Record) -> Plot:
    """(2) CPU and loop lag against forwarded packets, with the knee."""
    samples = [
        (one["packets_out"], one["worker_cpu"], one.get("worker_lag_s", 0.0) * 1000)
        for one in record.server
        if one.get("packets_out") and "worker_cpu" in one
    ]
    most = max([1.0, *(packets for packets, _, _ in samples)])
    high = max([1.0, *(cpu * 100 for _, cpu, _ in samples), *(lag for _, _, lag in samples)])
    plot = Plot(
        "Media workers: CPU and loop lag against packets sent", Axis("packets/s sent", 0, most * 1.05),
        Axis("% of a core; ms", 0, high * 1.1),
    )  # fmt: skip
    plot.points([(packets, cpu * 100) for packets, cpu, _ in samples], "c1", "CPU %")
    plot.points([(packets, lag) for packets, _, lag in samples], "c3", "loop lag ms")
    found = knee([(packets, cpu) for packets, cpu, _ in samples])
    if found is not None:
        plot.upright(found, "knee")
    else:
        plot.note = "no knee within this load"
    return plot


def knee(samples: Sequence[Point]) -> float | None:
    """The load from which on a packet costs `KNEE` times as much as in the cheapest fifth; None when it never does.

    Small loads cost most of all a packet, so the knee is looked for above the cheapest fifth only.
    """
    if len(samples) < 10:
        return None
    costs = sorted((cpu / packets, packets) for packets, cpu in samples if packets)
    cheap = costs[: max(1, len(costs) // 5)]
    base = sum(one for one, _ in cheap) / len(cheap)
    edge = max(packets for _, packets in cheap)
    above = sorted((packets, one) for one, packets in costs if packets > WIDER * edge)
    for position, (packets, one) in enumerate(above[: -KNEE_SAMPLES + 1]):
        rest = [later for _, later in above[position:]]
        if one > KNEE * base and sum(rest) / len(rest) > KNEE * base:
            return packets
    return None


def join(record: Record) -> Plot:
    """(3) Distribution of join times, with the share of each stage."""
    whole = record.totals.distributions.get("join_ms", Histogram())
    most = max(whole.highest, 100.0)
    plot = Plot("Joining", Axis("ms", 0, most * 1.05), Axis("share of sessions, %", 0, 100))
    for name, colour, title in (
        ("join_first_sound_ms", "c2", "first sound"), ("join_first_picture_ms", "c3", "first picture"),
        ("join_first_wave_ms", "c5", "first ECG"), ("join_ms", "c1", "everything"),
    ):  # fmt: skip
        histogram = record.totals.distributions.get(name, Histogram())
        if histogram.count:
            plot.line(_cdf(histogram), colour, title)
    plot.level(95, "95 %", "c4")
    means = []
    for stage in STAGES:
        histogram = record.totals.distributions.get(f"join_{stage}_ms", Histogram())
        if histogram.mean is not None:
            means.append(f"{stage.replace('_', ' ')} {histogram.mean:.0f}")
    plot.note = "mean of each stage, ms: " + ", ".join(means)
    return plot


def _cdf(histogram: Histogram) -> list[Point]:
    everything, seen = histogram.count + histogram.missing, 0
    points: list[Point] = [(0.0, 0.0)]
    for value, times in histogram.steps():
        points.append((value, 100 * seen / everything))
        seen += times
        points.append((value, 100 * seen / everything))
    return points


def heat(record: Record) -> Plot:
    """(4) Forward latency over time."""
    per_second = {at: one["forward_ms"] for at, one in sorted(record.seconds.items()) if "forward_ms" in one}
    high = max([1.0, *(one.highest for one in per_second.values())])
    plot = Plot(
        "Forward latency (share of packets in each second)", Axis("s", 0, record.length_s),
        Axis("ms", 0.05, max(1.0, high), log=True),
    )  # fmt: skip
    edges = [0.05 * (max(1.0, high) / 0.05) ** (row / HEAT_ROWS) for row in range(HEAT_ROWS + 1)]
    for at, histogram in per_second.items():
        rows = [0] * HEAT_ROWS
        for value, times in histogram.steps():
            row = next((index for index in range(HEAT_ROWS) if value <= edges[index + 1]), HEAT_ROWS - 1)
            rows[row] += times
        for row, times in enumerate(rows):
            if times:
                plot.cell(at, at + 1, edges[row], edges[row + 1], math.sqrt(times / histogram.count))
    _mark_faults(plot, record)
    return plot


def ecg(record: Record) -> Plot:
    """(5) Age of waveforms as a violin, and beside it a raster of the gaps of each stream."""
    ages = merged([one["ecg_age_ms"] for one in record.seconds.values() if "ecg_age_ms" in one])
    gaps = [(event[0] - record.started_s, event[1]) for event in record.totals.events if event[3] == "ecg gap"]
    high = max([200.0, ages.percentile(99.9) or 0.0])
    plot = Plot(
        "ECG: age at the viewer (left), gaps by viewer (right)", Axis("s", -record.length_s / 4, record.length_s),
        Axis("ms", 0, high),
    )  # fmt: skip
    bins = [0] * 48
    for value, times in ages.steps():
        bins[min(47, int(value / high * 48))] += times
    for index, times in enumerate(bins):
        if times:
            half = record.length_s / 9 * math.sqrt(times / max(bins))
            centre = -record.length_s / 8
            plot.cell(centre - half, centre + half, index * high / 48, (index + 1) * high / 48, 0.6)
    for percent in (50, 99):
        if (age := ages.percentile(percent)) is not None:
            plot.level(age, f"p{percent} {number(age)} ms", "c3")
    rows = sorted({session for _, session in gaps})[:RASTER_ROWS]
    for at, session in gaps:
        if session in rows:
            place = (rows.index(session) + 0.5) / max(1, len(rows)) * high
            plot.cell(at, at + max(0.2, record.length_s / 300), place, place + high / max(20, len(rows)), 1, "c4")
    plot.note = f"{len(gaps)} gaps" if gaps else "no gap"
    return plot


def recovery(record: Record, number: int = 1) -> Plot:
    """(6) Share of participants with picture and with waveform against seconds after a fault, until the next one."""
    if not record.faults:
        return Plot("Recovery", Axis("s after the fault", 0, 1), Axis("%", 0, 100), note="nothing was broken")
    faults = sorted(record.faults)
    one = recoveries(faults, record.length_s, totals_by_look(record), {}, (), 0)[number - 1]
    plot = Plot(
        f"Recovery after {one.kind} at {one.at_s:.0f} s",
        Axis("s after the fault", -5, max(5.0, one.until_s - one.at_s)),
        Axis("% of those who had it", 0, 105),
    )  # fmt: skip
    for column, colour, name in ((1, "c1", "joined"), (2, "c2", "picture"), (3, "c3", "ECG")):
        points = [(row[0], 100 * share) for row in one.curve if (share := row[column]) is not None]
        if points:
            plot.line(points, colour, name)
    plot.upright(0, one.kind)
    return plot


def memory(record: Record) -> Plot:
    """(7) Resident memory with its slope over the later half."""
    server = [(one["t"], one["server_rss_mb"]) for one in record.server if "server_rss_mb" in one]
    workers = [(one["t"], one["worker_rss_mb"]) for one in record.server if "worker_rss_mb" in one]
    high = max([1.0, *(value for _, value in [*server, *workers])])
    plot = Plot("Resident memory", Axis("s", 0, record.length_s), Axis("MB", 0, high * 1.15))
    for points, colour, name in ((server, "c1", "server"), (workers, "c2", "media workers")):
        plot.line(points, colour, name)
        later = points[len(points) // 2 :]
        quiet = not record.faults or record.faults[-1][0] < later[0][0] if later else False
        if quiet and later[-1][0] - later[0][0] >= STEADY_S:
            slope = slope_per_hour(later)
            mean_t = sum(at for at, _ in later) / len(later)
            mean_v = sum(value for _, value in later) / len(later)
            ends = [(at, mean_v + slope / 3600 * (at - mean_t)) for at in (later[0][0], later[-1][0])]
            plot.line(ends, "c4")
            plot.note += f"{name} {slope:+.1f} MB/h   "
    return plot


def trend(earlier: Sequence[dict[str, Any]]) -> Plot:
    """(8) Headline figures by commit, as parts of their own largest value."""
    names = (("join_ms", "p95", "c1"), ("forward_ms", "p99", "c2"), ("ecg_age_ms", "p99", "c3"))
    plot = Plot("Trend by run", Axis("run", 0, max(1, len(earlier) - 1)), Axis("% of the largest", 0, 110))
    for figure, percentile, colour in names:
        values = [
            (float(index), float(value))
            for index, one in enumerate(earlier)
            if (value := one["distributions"].get(figure, {}).get(percentile)) is not None
        ]
        top = max((value for _, value in values), default=0.0)
        if top:
            points = [(at, 100 * value / top) for at, value in values]
            plot.line(points, colour)
            plot.points(points, colour, f"{figure[:-3]} {percentile}")
    plot.note = "  ".join(f"{index}: {one['commit'][:8]}" for index, one in list(enumerate(earlier))[-8:])
    if len(earlier) < 2:
        plot.note = "no earlier run of this scenario on this machine"
    return plot


def _mark_faults(plot: Plot, record: Record) -> None:
    for at, kind in record.faults:
        plot.upright(at, kind)
