"""The report as a page and as text: verdict first, then figures, plots, and what was simulated."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from load_tests.report import witness_table
from load_tests.report.figures import DISTRIBUTIONS
from load_tests.report.recovery import Recovery
from load_tests.report.summary import DERIVED, Distribution, Summary, Verdict
from load_tests.report.svg import STYLE, Plot, number

PAGE_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b2733;background:#fff}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{padding:.2rem .6rem;border-bottom:1px solid #e4e8ec;text-align:right;font-variant-numeric:tabular-nums}
td:first-child,th:first-child,td.w{text-align:left}small{color:#52606d}.bad{color:#c92a2a;font-weight:600}
.ok{color:#2b8a3e;font-weight:600}.box{border-left:4px solid #c92a2a;background:#fff5f5;padding:.6rem 1rem}
svg{width:100%;height:auto;margin:.6rem 0}
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
    name = (
        one.figure
        if one.percentile == "value"
        else f"{one.figure} {'p' if one.percentile != 'max' else ''}{one.percentile}"
    )
    if one.at_most is not None:
        return f"{name} <= {number(one.at_most)}"
    return f"{name} >= {number(one.at_least or 0.0)}"


def shown(value: float | None) -> str:
    """A number, or that there is none."""
    return "-" if value is None else number(value)


def html(summary: Summary, plots: Mapping[str, Plot]) -> str:
    """A page that needs nothing but itself."""
    good = summary.valid and not summary.broken and all(one.held for one in summary.bounds)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(summary.id)}</title><style>{PAGE_STYLE}{STYLE}</style>",
        f"<h1>{escape(summary.scenario)}</h1>",
        f'<p class="{"ok" if good else "bad"}">{escape(headline(summary))}</p>',
        _why(summary), f"<p><small>{escape(where(summary))}</small></p>",
        _bounds(summary), _recoveries(summary), _distributions(summary.distributions), _values(summary),
        "<h2>Plots</h2>",
        *(plot.svg() for plot in plots.values()), witness_table.html(summary), _generators(summary),
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


def _why(summary: Summary) -> str:
    sentences = [*summary.invalid_because, *([summary.broken] if summary.broken else [])]
    return f'<div class="box">{"<br>".join(escape(one) for one in sentences)}</div>' if sentences else ""


def _bounds(summary: Summary) -> str:
    rows = [
        f'<tr><td>{escape(limit(one))}</td><td>{shown(one.value)}</td><td class="{"ok" if one.held else "bad"}">'
        f"{'held' if one.held else 'not held'}</td></tr>"
        for one in summary.bounds
    ]
    return f"<h2>Bounds</h2><table><tr><th>bound<th>value<th></tr>{''.join(rows)}</table>" if rows else ""


def _distributions(distributions: Mapping[str, Distribution]) -> str:
    rows = []
    for name in (name for name in DISTRIBUTIONS if name in distributions):
        one = distributions[name]
        cells = "".join(f"<td>{shown(value)}</td>" for value in (one.p50, one.p95, one.p99, one.max))
        missing = f'<td class="bad">{one.missing}</td>' if one.missing else "<td>0</td>"
        rows.append(
            f"<tr><td>{name}<br><small>{escape(one.about)}</small></td><td>{one.count}</td>{missing}{cells}</tr>"
        )
    head = "<tr><th>figure<th>count<th>missing<th>p50<th>p95<th>p99<th>max</tr>"
    return f"<h2>Distributions</h2><table>{head}{''.join(rows)}</table>"


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
        rows = "".join(
            f"<tr><td>{cells[0]}</td>{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>"
            for cells in back_rows(one)
        )
        head = "".join(f"<th>{name}" for name in BACK)
        parts.append(f"<h2>After {escape(one.kind)} at {one.at_s:g} s</h2><table><tr>{head}</tr>{rows}</table>")
    return "".join(parts)


def _values(summary: Summary) -> str:
    derived = [
        f"<tr><td>{name}<br><small>{escape(DERIVED[name])}</small></td><td>{shown(value)}</td></tr>"
        for name, value in summary.derived.items()
    ]
    counts = [f"<tr><td>{name}</td><td>{times}</td></tr>" for name, times in summary.counts.items()]
    errors = [f"<tr><td>{escape(kind)}</td><td>{times}</td></tr>" for kind, times in summary.errors.items()]
    tables = [f"<h2>Figures</h2><table>{''.join(derived)}</table>", f"<h2>Counts</h2><table>{''.join(counts)}</table>"]
    return "".join(tables + ([f"<h2>Errors</h2><table>{''.join(errors)}</table>"] if errors else []))


def _generators(summary: Summary) -> str:
    rows = [
        f"<tr><td>{escape(one.name)}</td><td>{one.sessions}</td><td>{one.cpu_share:.0%}</td>"
        f"<td>{shown(one.late_p99_ms)}</td><td>{one.own_loss}</td><td>{one.rss_mb:g}</td></tr>"
        for one in summary.generators
    ]
    head = "<tr><th>generator<th>sessions<th>CPU<th>late p99, ms<th>own loss<th>MB</tr>"
    return f"<h2>Generators</h2><table>{head}{''.join(rows)}</table>"


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
        lines += [
            "",
            f"After {fault.kind} at {fault.at_s:g} s:",
            "",
            f"| {' | '.join(BACK)} |",
            "|---" * len(BACK) + "|",
        ]
        lines += [f"| {' | '.join(cells)} |" for cells in back_rows(fault)]
    lines += witness_table.markdown(summary)
    lines += ["", "| figure | |", "|---|---|"]
    lines += [f"| {name} | {shown(value)} |" for name, value in summary.derived.items()]
    lines += ["", *(f"* {note}" for note in summary.notes), ""]
    return "\n".join(lines)


RESULTS_HEAD = (
    "| run | commit | machine | sessions | packets/s | join p95 ms | forward p99 ms | ECG age p99 ms | event p99 ms "
    "| server cores | verdict |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def results_row(summary: Summary) -> str:
    """One line of RESULTS.md."""

    def of(name: str, percentile: str) -> str:
        found = summary.distributions.get(name)
        return shown(getattr(found, percentile)) if found is not None else "-"

    verdict = "INVALID" if not summary.valid else headline(summary)
    dirty = "+" if summary.dirty else ""
    return (
        f"| {summary.scenario} {summary.started[:10]} | {summary.commit[:8]}{dirty} | {summary.machine.cpu}, "
        f"{summary.machine.cores} cores{', shared' if summary.same_host else ''} | {summary.sessions} "
        f"| {shown(summary.derived.get('packets_in_per_s'))} | {of('join_ms', 'p95')} | {of('forward_ms', 'p99')} "
        f"| {of('ecg_age_ms', 'p99')} | {of('event_ms', 'p99')} | {shown(summary.derived.get('server_cores'))} "
        f"| {verdict} |"
    )
