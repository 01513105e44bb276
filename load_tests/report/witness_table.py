"""The witnesses' own tables in a report: what each real browser saw, and where sessions measured the same."""

from __future__ import annotations

from html import escape

from load_tests.report.summary import Summary
from load_tests.report.svg import number
from load_tests.report.witness import COUNTS, FIGURES, Beside

BESIDE_HEAD = ("figure", "witnesses p50", "p99", "sessions p50", "p99")


def html(summary: Summary) -> str:
    """Both tables; nothing where there was no witness."""
    if not summary.witnesses:
        return ""
    names = "".join(f"<th>{escape(one.name)}<br><small>{escape(one.consult)}</small>" for one in summary.witnesses)
    rows = []
    for figure, about in (FIGURES | COUNTS).items():
        cells = []
        for one in summary.witnesses:
            spread = one.distributions.get(figure)
            text = _shown(one.counts.get(figure)) if spread is None else f"{_shown(spread.p50)} / {_shown(spread.p99)}"
            cells.append(f"<td>{text}</td>")
        rows.append(f"<tr><td>{figure}<br><small>{escape(about)}</small></td>{''.join(cells)}</tr>")
    cores = "".join(f"<td>{_shown(one.cpu_cores)}</td>" for one in summary.witnesses)
    rows.append(f"<tr><td>cores<br><small>CPU of its processes, mean; they shared the machine</small></td>{cores}</tr>")
    problems = "".join(
        f'<p class="bad">{escape(one.name)}: {escape(one.problem)}</p>' for one in summary.witnesses if one.problem
    )
    apart = "<p><small>p50 / p99, or a count. In no other figure of this report.</small></p>"
    table = f'<div class="scroll"><table><tr><th>figure{names}</tr>{"".join(rows)}</table></div>'
    return f"<h2>Witnesses: real Chromiums</h2>{problems}{apart}{table}{_beside(summary)}"


def _beside(summary: Summary) -> str:
    rows = [
        f"<tr><td>{cells[0]}<br><small>{escape(one.note)}</small></td>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>"
        for one, cells in ((one, _cells(one)) for one in summary.beside)
    ]
    head = "".join(f"<th>{name}" for name in BESIDE_HEAD)
    table = f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
    return f"<h2>Witnesses beside sessions</h2>{table}" if rows else ""


def markdown(summary: Summary) -> list[str]:
    """The same as lines of text."""
    if not summary.witnesses:
        return []
    names = [f"{one.name} in {one.consult}" for one in summary.witnesses]
    lines = ["", f"| witness, p50 / p99 | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for figure in FIGURES:
        found = [one.distributions.get(figure) for one in summary.witnesses]
        cells = ["-" if one is None else f"{_shown(one.p50)} / {_shown(one.p99)}" for one in found]
        lines.append(f"| {figure} | {' | '.join(cells)} |")
    for count in COUNTS:
        lines.append(f"| {count} | {' | '.join(_shown(one.counts.get(count)) for one in summary.witnesses)} |")
    lines.append(f"| cores | {' | '.join(_shown(one.cpu_cores) for one in summary.witnesses)} |")
    lines += ["", f"| {' | '.join(BESIDE_HEAD)} |", "|---" * len(BESIDE_HEAD) + "|"]
    return lines + [f"| {' | '.join(_cells(one))} |" for one in summary.beside]


def told(summary: Summary) -> list[str]:
    """For whoever waits at the terminal."""
    found = [f"witness {one.name}: {one.problem}" for one in summary.witnesses if one.problem]
    for one in summary.beside:
        name, *values = _cells(one)
        found.append("{}: witnesses p50 {}, p99 {}; sessions p50 {}, p99 {}".format(name, *values))
    return found


def _cells(one: Beside) -> tuple[str, ...]:
    values = (one.witness_p50, one.witness_p99, one.simulated_p50, one.simulated_p99)
    return (one.witness, *(_shown(value) for value in values))


def _shown(value: float | None) -> str:
    return "-" if value is None else number(value)
