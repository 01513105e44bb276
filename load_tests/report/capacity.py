"""What a search for the capacity found: a row for each run, as a table for people and as values for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from pydantic import BaseModel, ConfigDict

from load_tests.plan.search import Outcome, Search
from load_tests.report.page import head, limit, shown, where
from load_tests.report.summary import Summary, Verdict
from load_tests.run.profile import table


class Step(BaseModel):
    """One run of the search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consults: int
    outcome: Outcome
    folder: str
    """Of the run's own report, beside this one."""
    sessions: int
    bounds: tuple[Verdict, ...]
    because: tuple[str, ...]
    """Why it is invalid, or could not go on."""
    packets_per_s: float | None
    server_cores: float | None
    hub_cores: float | None
    generator_share: float
    generator_late_ms: float | None


class Found(BaseModel):
    """The whole search; kept in ``capacity.json``, from which it goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    scenario_hash: str
    """Of the scenario with one consult."""
    commit: str
    dirty: bool
    where: str
    notes: tuple[str, ...]
    start: int
    most: int
    steps: tuple[Step, ...]
    options: tuple[str, ...] = ()
    """Of all its runs, as on the command line."""
    profile: str = ""
    """Folder of a further run of the first number that broke, which a profiler looked at; it is no step."""
    causes: tuple[str, ...] = ()
    """What the server's processes did most there, a line for each process."""

    def search(self) -> Search:
        """Where it stands."""
        search = Search(self.start, self.most)
        for step in self.steps:
            search.book(step.consults, step.outcome)
        return search


def outcome_of(summary: Summary) -> Outcome:
    """What a run says of its number. One whose server died has broken; so has one that lost tracks."""
    if not summary.valid:
        return Outcome.INVALID
    return Outcome.HELD if not summary.broken and all(one.held for one in summary.bounds) else Outcome.BROKE


def step_of(summary: Summary, folder: str, hub_cores: float | None) -> Step:
    """A run as a row."""
    because = (*summary.invalid_because, *([summary.broken] if summary.broken else []))
    return Step(
        consults=summary.consults, outcome=outcome_of(summary), folder=folder, sessions=summary.sessions,
        bounds=summary.bounds, because=because, packets_per_s=summary.derived.get("packets_in_per_s"),
        server_cores=summary.derived.get("server_cores"), hub_cores=hub_cores,
        generator_share=max((one.cpu_share for one in summary.generators), default=0.0),
        generator_late_ms=max((one.late_p99_ms or 0.0 for one in summary.generators), default=None),
    )  # fmt: skip


def passed_over(step: Step) -> list[Verdict]:
    """The bounds that did not hold, the one that was passed by most first; what is missing is worst."""

    def by(one: Verdict) -> float:
        if one.value is None:
            return float("inf")
        if one.at_most is not None:
            return one.value / one.at_most if one.at_most else float("inf")
        return (one.at_least or 0.0) / one.value if one.value else float("inf")

    return sorted((one for one in step.bounds if not one.held), key=by, reverse=True)


def answer(found: Found) -> str:
    """The capacity in a sentence."""
    search = found.search()
    held, ended = search.held, search.next() is None
    if not found.steps:
        return "Nothing was run."
    least = "at least " if search.generators_ended or not ended else ""
    why = ""
    if search.broke <= search.most:
        step = max((one for one in found.steps if one.consults == search.broke), key=lambda one: one.outcome == "broke")
        broken = passed_over(step)
        first = f"{limit(broken[0])} was {shown(broken[0].value)}" if broken else "; ".join(step.because)
        why = f" With {search.broke}, {first}"
        why += f", and {len(broken) - 1} more." if len(broken) > 1 else "."
    if search.generators_ended:
        why += " The generators ended first: what is above it is not known."
    elif held == search.most:
        why += " More were not tried."
    if not ended:
        why += " The search has not ended."
    return f"{least[:1].upper() + least[1:] or ''}{held} consults.{why}"


COLUMNS: Final = ("consults", "sessions", "packets/s", "server cores", "of these hub", "generator CPU", "late p99 ms")


def rows(found: Found) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table, by the number of consults."""
    limits = [limit(one) for one in found.steps[0].bounds] if found.steps else []
    made = []
    for step in sorted(found.steps, key=lambda one: one.consults):
        values = [f"{shown(one.value)}{'' if one.held else ' !'}" for one in step.bounds]
        share = f"{step.generator_share:.0%}"
        made.append([
            str(step.consults), str(step.sessions), shown(step.packets_per_s), shown(step.server_cores),
            shown(step.hub_cores), share, shown(step.generator_late_ms), *values, said(step),
        ])  # fmt: skip
    return [*COLUMNS, *limits, "verdict"], made


def said(step: Step) -> str:
    """A run's verdict in words."""
    match step.outcome:
        case Outcome.INVALID:
            return f"INVALID, says nothing of the server: {' '.join(step.because)}"
        case Outcome.HELD:
            return "held"
    return ", ".join([limit(one) for one in passed_over(step)] + list(step.because)) + " passed over"


def markdown(found: Found) -> str:
    """The report as text."""
    columns, cells = rows(found)
    lines = [f"# Capacity: {found.scenario}", "", answer(found), "", *(f"* {one}" for one in found.causes)]
    lines += [*([""] if found.causes else []), found.where, "", f"| {' | '.join(columns)} |"]
    lines += [f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in cells), ""]
    lines += [f"* {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def causes(folded: Mapping[str, str], most: int = 3) -> tuple[str, ...]:
    """Of stacks by process: in which functions each was on the CPU most, themselves, as shares of its samples."""
    found = []
    for name, text in folded.items():
        total, alone, _ = table(text)
        if total:
            first = ", ".join(f"{one} {times / total:.0%}" for one, times in alone.most_common(most))
            found.append(f"{name}: most of its own time in {first}")
    return tuple(found)


def html(found: Found) -> str:
    """The report as a page that needs nothing but itself and the runs' folders beside it."""
    columns, cells = rows(found)
    folders = [step.folder for step in sorted(found.steps, key=lambda one: one.consults)]
    body = []
    for row, folder in zip(cells, folders, strict=True):
        style = "ok" if row[-1] == "held" else "bad"
        inner = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:-1])
        link = f'<td><a href="runs/{escape(folder)}/report.html">{row[0]}</a></td>'
        body.append(f'<tr>{link}{inner}<td class="w {style}">{escape(row[-1])}</td></tr>')
    names = "".join(f"<th>{escape(one)}" for one in columns)
    profiled = ""
    if found.profile:
        why = "".join(f"<li>{escape(one)}</li>" for one in found.causes) or "<li>nothing could be read</li>"
        link = f'<a href="runs/{escape(found.profile)}/profile.md">profile</a>'
        profiled = f"<h2>With the first number that broke, by the {link}</h2><ul>{why}</ul>"
    return "\n".join([
        *head(f"Capacity: {found.scenario}", "td.w{min-width:20rem}"), f"<h1>Capacity: {escape(found.scenario)}</h1>",
        f'<p class="verdict">{escape(answer(found))}</p><p><small>{escape(found.where)}</small></p>',
        f'<div class="scroll"><table><tr>{names}</tr>{"".join(body)}</table></div>', profiled,
        "<ul>", *(f"<li>{escape(note)}</li>" for note in found.notes), "</ul></html>\n",
    ])  # fmt: skip


def place(summaries: Sequence[Summary]) -> str:
    """Where it ran: of the last run."""
    return where(summaries[-1]) if summaries else ""
