"""The eight plots of a run (WEB_AND_OPS section 5.2), each from the record; one with nothing to show says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from load_tests.report.histogram import Histogram, merged
from load_tests.report.record import Record
from load_tests.report.recovery import recoveries
from load_tests.report.slope import later_half, slope_of
from load_tests.report.svg import Axis, Plot, Point, number

TIME: Final = "seconds of the run"
STAGES: Final = ("sign_in", "token", "socket", "enter", "transport", "ice", "dtls")
HEAT_ROWS: Final = 24
KNEE: Final = 1.5
"""The knee is where the cost of a packet has grown to so many times what it was in the cheapest fifth."""
WIDER: Final = 1.2
KNEE_SAMPLES: Final = 3
"""A knee is no single sample, and none of a load that hardly changes."""
VIOLIN_BINS: Final = 48
COLUMNS: Final = 240
"""Parts of a run along the time axis: of a long one several seconds are drawn as one, their histograms added."""


def all_plots(record: Record, earlier: Sequence[dict[str, Any]]) -> dict[str, Plot]:
    """By file name. ``earlier``: summaries of earlier runs of this scenario, oldest first, this one last."""
    drawn: dict[str, Callable[[], Plot]] = {
        "1-load": partial(load, record), "2-cost": partial(cost, record), "3-join": partial(join, record),
        "4-forward": partial(heat, record), "5-ecg": partial(ecg, record), "6-recovery": partial(recovery, record),
        **{f"6-recovery-{one}": partial(recovery, record, one) for one in range(2, len(record.faults) + 1)},
        "7-memory": partial(memory, record), "8-trend": partial(trend, earlier),
        **({"9-lock": partial(lock, record)} if record.scenario.hospitals else {}),
    }  # fmt: skip
    return {name: _safely(name, draw) for name, draw in drawn.items()}


def _safely(name: str, draw: Callable[[], Plot]) -> Plot:
    """A plot that cannot be drawn must not cost the figures of a run that took an hour."""
    try:
        return draw()
    except (ArithmeticError, LookupError, TypeError, ValueError) as problem:
        return Plot(name, Axis("", 0, 1), Axis("", 0, 1), note=f"cannot be drawn: {type(problem).__name__}: {problem}")


def lock(record: Record) -> Plot:
    """Of a run with gateways: what waits in them, and what their hospitals were told is taken."""
    waiting = [(one["t"], one["lock_waiting"]) for one in record.server if "lock_waiting" in one]
    taken = [(float(at), float(counts.get("lock_taken", 0))) for at, counts in sorted(record.counts.items())]
    most = max([1.0, *(y for _, y in waiting), *(y for _, y in taken)])
    plot = Plot("Through the lock", Axis(TIME, 0, record.length_s), Axis("messages", 0, most * 1.1))
    plot.area(waiting, "c3", "waiting in gateways")
    plot.line(taken, "c1", "taken, a second")
    _mark_faults(plot, record)
    return plot


def load(record: Record) -> Plot:
    """(1) Load and success over time."""
    curve = record.curve.totals(record.length_s)
    planned = _planned(record)
    most = max([1.0, *(values[0] for _, values in curve), *(y for _, y in planned)])
    plot = Plot("Load and success", Axis(TIME, 0, record.length_s), Axis("sessions", 0, most * 1.1))
    plot.line(planned, "c5", "planned")
    plot.area([(at, values[1]) for at, values in curve], "c1", "joined")
    plot.line([(at, values[2]) for at, values in curve if values[3]], "c2", "with picture")
    plot.line([(at, values[4]) for at, values in curve if values[5]], "c3", "with ECG")
    errors = [(float(at), most * 0.02) for at, counts in record.counts.items() if counts.get("errors")]
    plot.points(errors, "c4", "a second with errors")
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
        "What forwarding costs the media workers, second by second",
        Axis("packets sent in the second", 0, most * 1.05), Axis("% of a core, or ms", 0, high * 1.1),
    )  # fmt: skip
    plot.points([(packets, cpu * 100) for packets, cpu, _ in samples], "c1", "CPU, % of a core")
    plot.points([(packets, lag) for packets, _, lag in samples], "c3", "longest loop lag of the second, ms")
    found = knee([(packets, cpu) for packets, cpu, _ in samples])
    whole = record.totals.distributions.get("worker_loop_lag_ms", Histogram())
    lag = whole.percentile(99)
    said = "" if lag is None else f"; loop lag p99 of all moments: {number(lag)} ms"
    if found is not None:
        plot.upright(found, f"knee at {number(found)}/s")
        plot.note = f"from the knee on a packet costs {KNEE:g} times as much{said}"
    else:
        plot.note = f"no knee within this load{said}"
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
    """(3) Distribution of join times, and what each stage of joining takes."""
    seen = record.totals.distributions
    whole = seen.get("join_ms", Histogram())
    most = max(whole.highest, 100.0)
    plot = Plot(
        "Joining: from the first request to what is there to be had", Axis("ms", 0, most * 1.05),
        Axis("% of the sessions", 0, 100),
    )  # fmt: skip
    for name, colour, title in (
        ("join_first_sound_ms", "c2", "first sound"), ("join_first_picture_ms", "c3", "first picture"),
        ("join_first_wave_ms", "c5", "first ECG"), ("join_ms", "c1", "everything"),
    ):  # fmt: skip
        histogram = seen.get(name, Histogram())
        if histogram.count:
            # Who came before everybody else has nobody to hear yet: what lies beyond the axis is not drawn at its end.
            plot.line([point for point in _cdf(histogram) if point[0] <= plot.x.high], colour, title)
    plot.level(95, "95 %")
    plot.bars("Stages, each by itself: p50 (thick) and p95 (thin)", _stages(seen), "ms")
    plot.note = "a line that ends early goes on beyond the axis: who came first had nobody to hear yet"
    if whole.missing:
        plot.note = f"{whole.missing} sessions never had everything: that line ends below 100 %"
    return plot


def _stages(seen: dict[str, Histogram]) -> list[tuple[str, float, float]]:
    rows = []
    for stage in STAGES:
        histogram = seen.get(f"join_{stage}_ms", Histogram())
        near, far = histogram.percentile(50), histogram.percentile(95)
        if near is not None and far is not None:
            rows.append((stage.replace("_", " "), near, far))
    return rows


def _cdf(histogram: Histogram) -> list[Point]:
    everything, seen = histogram.count + histogram.missing, 0
    points: list[Point] = [(0.0, 0.0)]
    for value, times in histogram.steps():
        points.append((value, 100 * seen / everything))
        seen += times
        points.append((value, 100 * seen / everything))
    return points


Column = tuple[float, float, Histogram]


def _columns(record: Record, figure: str) -> list[Column]:
    """From when to when, seconds of the run, and all values of that time; `COLUMNS` at most, none that is empty."""
    width = max(1, math.ceil(record.length_s / COLUMNS))
    parts: dict[int, list[Histogram]] = {}
    for at, one in sorted(record.seconds.items()):
        if figure in one:
            parts.setdefault(at // width, []).append(one[figure])
    columns = [(float(part * width), float((part + 1) * width), merged(found)) for part, found in parts.items()]
    return [one for one in columns if one[2].count]


def _percentiles(plot: Plot, columns: Sequence[Column]) -> None:
    """p50 and p99 along the time, as lines."""
    if not columns:
        return
    width = f"{columns[0][1] - columns[0][0]:.0f} s"
    for percent, colour in ((50, "c2"), (99, "c3")):
        points = [((low + high) / 2, one.percentile(percent)) for low, high, one in columns]
        plot.line([(at, value) for at, value in points if value is not None], colour, f"p{percent} of {width}")


def heat(record: Record) -> Plot:
    """(4) Forward latency over time."""
    columns = _columns(record, "forward_ms")
    high = max([1.0, *(one.highest for _, _, one in columns)])
    plot = Plot(
        "Forward latency over time", Axis(TIME, 0, record.length_s),
        Axis("ms, logarithmic", 0.05, max(1.0, high), log=True),
    )  # fmt: skip
    edges = [0.05 * (max(1.0, high) / 0.05) ** (row / HEAT_ROWS) for row in range(HEAT_ROWS + 1)]
    for begin, end, histogram in columns:
        rows = [0] * HEAT_ROWS
        for value, times in histogram.steps():
            row = next((index for index in range(HEAT_ROWS) if value <= edges[index + 1]), HEAT_ROWS - 1)
            rows[row] += times
        for row, times in enumerate(rows):
            if times:
                plot.cell(begin, end, edges[row], edges[row + 1], 0.8 * math.sqrt(times / histogram.count))
    _percentiles(plot, columns)
    plot.note = "the darker, the more of that time's packets" if columns else "no packet crossed a perfect line"
    _mark_faults(plot, record)
    return plot


def ecg(record: Record) -> Plot:
    """(5) Age of waveforms as a violin and second by second, and a raster of the gaps of each viewer."""
    columns = _columns(record, "ecg_age_ms")
    ages = merged([one for _, _, one in columns])
    high = max([200.0, ages.percentile(99.9) or 0.0])
    plot = Plot(
        "Age of the ECG when a viewer has it: all (left), over time (right)",
        Axis(TIME, -record.length_s / 4, record.length_s, marked_from=0), Axis("ms", 0, high),
    )  # fmt: skip
    bins = [0] * VIOLIN_BINS
    for value, times in ages.steps():
        bins[min(VIOLIN_BINS - 1, int(value / high * VIOLIN_BINS))] += times
    for index, times in enumerate(bins):
        if times:
            half = record.length_s / 9 * math.sqrt(times / max(bins))
            centre = -record.length_s / 8
            edges = index * high / VIOLIN_BINS, (index + 1) * high / VIOLIN_BINS
            plot.cell(centre - half, centre + half, *edges, 0.6)
    _percentiles(plot, columns)
    for percent in (50, 99):
        if (age := ages.percentile(percent)) is not None:
            plot.level(age, f"p{percent} of all {number(age)} ms")
    gaps: dict[int, list[float]] = {}
    for at_s, session, _, what, _ in record.totals.events:
        if what == "ecg gap":
            gaps.setdefault(session, []).append(at_s - record.started_s)
    plot.raster("Gaps, by viewer", [(f"session {session}", times) for session, times in sorted(gaps.items())])
    _mark_faults(plot, record)
    plot.note = f"{sum(map(len, gaps.values()))} gaps" if gaps else "no gap"
    return plot


def recovery(record: Record, number: int = 1) -> Plot:
    """(6) Share of participants with picture and with waveform against seconds after a fault, until the next one."""
    if not record.faults:
        return Plot(
            "Recovery", Axis("seconds after the fault", 0, 1), Axis("% of those who had it", 0, 100),
            note="nothing was broken in this run",
        )  # fmt: skip
    faults = sorted(record.faults)
    looks = record.curve.totals(record.length_s)
    one = recoveries(faults, record.length_s, looks, {}, (), 0)[number - 1]
    plot = Plot(
        f"Recovery after {one.kind} at {one.at_s:.0f} s",
        Axis("seconds after the fault", -5, max(5.0, one.until_s - one.at_s)), Axis("% of those who had it", 0, 105),
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
    plot = Plot("Resident memory of the server", Axis(TIME, 0, record.length_s), Axis("MB", 0, high * 1.15))
    said = []
    for points, colour, name in ((server, "c1", "hub"), (workers, "c2", "media workers")):
        plot.line(points, colour, name)
        later = later_half(points)
        quiet = bool(later) and (not record.faults or record.faults[-1][0] < later[0][0])
        found = slope_of(later) if quiet else None
        if found is not None:
            at_s, value = found.middle
            edges = (later[0][0], later[-1][0])
            plot.line([(at, value + found.per_hour / 3600 * (at - at_s)) for at in edges], "c4")
            said.append(f"{name} {found.per_hour:+.1f} MB/h ({found.low:+.1f} to {found.high:+.1f})")
    plot.note = "slope over the later half: " + ", ".join(said) if said else "too short, or broken, for a slope"
    return plot


def trend(earlier: Sequence[dict[str, Any]]) -> Plot:
    """(8) Headline figures by commit, as parts of their own largest value."""
    names = (("join_ms", "p95", "c1"), ("forward_ms", "p99", "c2"), ("ecg_age_ms", "p99", "c3"),
             ("event_ms", "p99", "c5"))  # fmt: skip
    commits = [one["commit"][:8] + ("+" if one.get("dirty") else "") for one in earlier]
    plot = Plot(
        "Headline figures by commit, valid runs on this machine",
        Axis("commit (+: with changes)", -0.3, max(1, len(earlier) - 1) + 0.3, names=commits or [""]),
        Axis("% of its largest", 0, 110),
    )  # fmt: skip
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
            plot.points(points, colour, f"{figure[:-3].replace('_', ' ')} {percentile}, 100 % = {number(top)} ms")
    if len(earlier) < 2:
        plot.note = "no earlier run of this scenario on this machine in this folder"
    return plot


def _mark_faults(plot: Plot, record: Record) -> None:
    for at, kind in record.faults:
        plot.upright(at, kind)
