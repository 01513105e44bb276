"""The report as a page and as text: verdict first, then headline, bounds, plots, all figures, what was simulated.

The page needs nothing but itself, follows the reader's light or dark setting, and is read on a desk's screen and on a
phone: plots stand in two columns or in one, and what is too wide is moved sideways in its own place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from load_tests.report import witness_table
from load_tests.report.figures import COUNTS, DISTRIBUTIONS
from load_tests.report.recovery import Recovery
from load_tests.report.summary import DERIVED, Distribution, Summary, Verdict
from load_tests.report.svg import STYLE, Plot, number

PAGE_STYLE = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto 4rem;max-width:82rem;padding:0 1.5rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.4rem 0 .6rem}p{margin:.4rem 0}a{color:var(--c1)}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;padding:.4rem 0}
td,th{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft);vertical-align:bottom;white-space:nowrap}
td:first-child,th:first-child,td.w,th.w{text-align:left}td:first-child{min-width:11rem}
tr.group td{padding-top:1rem;color:var(--soft);font-weight:600;border-bottom:2px solid var(--rule)}
small{color:var(--soft)}.bad{color:var(--bad);font-weight:600}.ok{color:var(--good);font-weight:600}
td.ok,td.bad{white-space:nowrap}.verdict{font-size:1.15rem}
.box{border-left:4px solid var(--bad);background:var(--warn);padding:.6rem 1rem;margin:1rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.8rem;margin:1.2rem 0}
.tiles div{border:1px solid var(--rule);border-radius:.4rem;padding:.6rem .8rem}
.tiles b{display:block;font-size:1.25rem;white-space:nowrap;font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,36rem),1fr));gap:1.2rem}
.plots figure{margin:0;border:1px solid var(--rule);border-radius:.4rem;padding:.6rem;overflow-x:auto}
.plots svg{display:block;width:100%;min-width:32rem;height:auto}
@media (max-width:40rem){body{padding:0 .8rem;margin-top:1rem}td,th{padding:.3rem .4rem}.plots figure{padding:.3rem}}
"""

BACK = ("", "lowest", "50 % back, s", "95 %", "all", "outage p50, s", "p99", "never")
"""Columns of what came back after a fault."""


def headline(summary: Summary) -> str:
    """The run in one line."""
    if not summary.valid:
        return "INVALID: the figures say nothing about the server"
    if summary.broken:
        return "BROKEN: the run could not go on"
    failed = [one for one in summary.bounds if not one.held]
    if failed:
        return f"{len(failed)} of {len(summary.bounds)} bounds passed over: {', '.join(limit(one) for one in failed)}"
    ended = "ended early by hand; " if summary.interrupted else ""
    return f"{ended}all {len(summary.bounds)} bounds held" if summary.bounds else f"{ended}no bounds were set"


def limit(one: Verdict) -> str:
    """A bound as people write it."""
    name = one.figure
    if one.percentile != "value":
        name += f" {'p' if one.percentile != 'max' else ''}{one.percentile}"
    if one.at_most is not None:
        return f"{name} <= {number(one.at_most)}"
    return f"{name} >= {number(one.at_least or 0.0)}"


def shown(value: float | None) -> str:
    """A number, or that there is none."""
    return "-" if value is None else number(value)


def percentile(summary: Summary, figure: str, which: str) -> float | None:
    """Of a distribution; None where nothing was counted, or that rank is one of the missing."""
    found = summary.distributions.get(figure)
    return None if found is None else getattr(found, which)


def head(title: str, more: str = "") -> list[str]:
    """The beginning of a page."""
    return [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title><style>{STYLE}{PAGE_STYLE}{more}</style>",
    ]


def html(summary: Summary, plots: Mapping[str, Plot]) -> str:
    """A page that needs nothing but itself."""
    good = summary.valid and not summary.broken and all(one.held for one in summary.bounds)
    drawn = "".join(f"<figure>{plot.svg()}</figure>" for plot in plots.values())
    parts = [
        *head(summary.id), f"<h1>{escape(summary.scenario)}</h1>",
        f'<p class="verdict {"ok" if good else "bad"}">{escape(headline(summary))}</p>',
        _why(summary), f"<p><small>{escape(where(summary))}</small></p>", _tiles(summary), _bounds(summary),
        f'<h2>Plots</h2><div class="plots">{drawn}</div>', _recoveries(summary),
        _distributions(summary.distributions), _values(summary), witness_table.html(summary), _generators(summary),
        "<h2>Read this with it</h2><ul>", *(f"<li>{escape(note)}</li>" for note in summary.notes), "</ul></html>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def where(summary: Summary) -> str:
    """Machine, source, time."""
    machine = summary.machine
    return (
        f"{summary.started}, {summary.lasted_s:g} s ({summary.measured_s:g} s measured), seed {summary.seed}; "
        f"commit {summary.commit[:12] or 'unknown'}{' with changes' if summary.dirty else ''}; {machine.cpu}, "
        f"{machine.cores} cores, {machine.memory_gb:g} GB, kernel {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_before:g} before; {summary.sessions} sessions in {summary.consults} consults"
    )


def headlines(summary: Summary) -> list[tuple[str, str]]:
    """The figures that are told first: value and name."""
    tiles = [
        (str(summary.consults), "consults"), (str(summary.sessions), "sessions"),
        (shown(summary.derived.get("packets_in_per_s")), "packets/s sent"),
        (shown(summary.derived.get("server_cores")), "server cores"),
    ]  # fmt: skip
    for figure, which, name in (
        ("join_ms", "p95", "join p95"), ("forward_ms", "p99", "forward p99"), ("ecg_age_ms", "p99", "ECG age p99"),
        ("event_ms", "p99", "event p99"),
    ):  # fmt: skip
        value = percentile(summary, figure, which)
        if figure in summary.distributions:
            tiles.append(("missing" if value is None else f"{number(value)} ms", name))
    return tiles


def _tiles(summary: Summary) -> str:
    cells = "".join(f"<div><b>{escape(value)}</b><small>{escape(name)}</small></div>"
                    for value, name in headlines(summary))  # fmt: skip
    return f'<div class="tiles">{cells}</div>'


def _why(summary: Summary) -> str:
    sentences = [*summary.invalid_because, *([summary.broken] if summary.broken else [])]
    return f'<div class="box">{"<br>".join(escape(one) for one in sentences)}</div>' if sentences else ""


def table(title: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    """A table with its heading; nothing without rows."""
    if not rows:
        return ""
    names = "".join(f"<th>{escape(name)}" for name in columns)
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f'{heading}<div class="scroll"><table><tr>{names}</tr>{"".join(rows)}</table></div>'


def row(cells: Sequence[str], about: str = "") -> str:
    """Cells of text, the first with what it means."""
    first, *rest = (escape(one) for one in cells)
    more = f"<br><small>{escape(about)}</small>" if about else ""
    return f"<tr><td>{first}{more}</td>{''.join(f'<td>{one}</td>' for one in rest)}</tr>"


def _bounds(summary: Summary) -> str:
    rows = [
        f'<tr><td>{escape(limit(one))}</td><td>{shown(one.value)}</td><td class="{"ok" if one.held else "bad"}">'
        f"{'held' if one.held else 'not held'}</td></tr>"
        for one in summary.bounds
    ]
    return table("Bounds", ("bound", "value", ""), rows)


def _distributions(distributions: Mapping[str, Distribution]) -> str:
    rows, group = [], ""
    for name in (name for name in DISTRIBUTIONS if name in distributions):
        one = distributions[name]
        if DISTRIBUTIONS[name].group != group:
            group = DISTRIBUTIONS[name].group
            rows.append(f'<tr class="group"><td colspan="7">{escape(group)}</td></tr>')
        cells = "".join(f"<td>{shown(value)}</td>" for value in (one.p50, one.p95, one.p99, one.max))
        missing = f'<td class="bad">{one.missing}</td>' if one.missing else "<td>0</td>"
        rows.append(
            f"<tr><td>{name}<br><small>{escape(one.about)}</small></td><td>{one.count}</td>{missing}{cells}</tr>"
        )
    return table("Distributions", ("figure", "count", "missing", "p50", "p95", "p99", "max"), rows)


def back_rows(one: Recovery) -> list[tuple[str, ...]]:
    """What came back after one fault, as cells."""
    rows = [
        (
            name, "-" if back.lowest is None else f"{back.lowest:.0%} of {back.had:g}", shown(back.half_s),
            shown(back.most_s), shown(back.all_s), shown(back.p50_s), shown(back.p99_s), shown(back.never),
        )
        for name, back in (("joined", one.joined), ("picture", one.picture), ("waveform", one.wave))
    ]  # fmt: skip
    events = one.events
    ends = (shown(events.p50_s), shown(events.p99_s), shown(float(events.never)))
    return [*rows, ("page turns heard", f"{events.consults} consults", "", "", shown(events.max_s), *ends)]


def _recoveries(summary: Summary) -> str:
    parts = []
    for one in summary.recoveries:
        proof = f"<p><small>{escape(one.proof)}</small></p>" if one.proof else ""
        parts.append(f"<h2>After {escape(one.kind)} at {one.at_s:g} s</h2>{proof}")
        parts.append(table("", BACK, [row(cells) for cells in back_rows(one)]))
    return "".join(parts)


def _values(summary: Summary) -> str:
    derived = [row((name, shown(value)), DERIVED[name]) for name, value in summary.derived.items()]
    counts = [
        row((name, str(times)), COUNTS[name].about if name in COUNTS else "") for name, times in summary.counts.items()
    ]
    errors = [row((kind, str(times))) for kind, times in summary.errors.items()]
    return (
        table("Figures", ("figure", "value"), derived)
        + table("Counts", ("what", "times"), counts)
        + table("Errors", ("kind", "times"), errors)
    )


def _generators(summary: Summary) -> str:
    rows = [
        row((
            one.name, str(one.sessions), one.plays or "-", f"{one.cpu_share:.0%}", shown(one.late_p99_ms),
            shown(one.play_late_p99_ms), str(one.own_loss), f"{one.rss_mb:g}",
            f"{one.clock_ahead_ms:g} ± {one.clock_error_ms + one.clock_drift_ms:g}",
        ))
        for one in summary.generators
    ]  # fmt: skip
    columns = ("generator", "sessions", "plays in", "CPU", "late p99, ms", "media late p99, ms", "own loss", "MB",
               "clock ahead, ms")  # fmt: skip
    return table("Generators", columns, rows)


def markdown(summary: Summary) -> str:
    """The same without plots."""
    lines = [f"# {summary.scenario}", "", headline(summary), ""]
    lines += [*(f"* {one}" for one in summary.invalid_because), *([f"* {summary.broken}"] if summary.broken else [])]
    lines += ["", where(summary), "", "| bound | value | |", "|---|---|---|"]
    lines += [f"| {limit(one)} | {shown(one.value)} | {'held' if one.held else 'NOT HELD'} |" for one in summary.bounds]
    lines += ["", "| figure | count | missing | p50 | p95 | p99 | max |", "|---|---|---|---|---|---|---|"]
    for name, one in summary.distributions.items():
        values = " | ".join(shown(value) for value in (one.p50, one.p95, one.p99, one.max))
        lines.append(f"| {name} | {one.count} | {one.missing} | {values} |")
    for fault in summary.recoveries:
        lines += ["", f"After {fault.kind} at {fault.at_s:g} s{': ' + fault.proof if fault.proof else ''}:", ""]
        lines += [f"| {' | '.join(BACK)} |", "|---" * len(BACK) + "|"]
        lines += [f"| {' | '.join(cells)} |" for cells in back_rows(fault)]
    lines += witness_table.markdown(summary)
    lines += ["", "| figure | |", "|---|---|"]
    lines += [f"| {name} | {shown(value)} |" for name, value in summary.derived.items()]
    lines += ["", *(f"* {note}" for note in summary.notes), ""]
    return "\n".join(lines)
