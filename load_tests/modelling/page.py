"""The model's answers as a page with plots and as JSON: ``python -m load_tests model``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, Final

from load_tests.model import Model, Need, Work, busiest, day, hospital_line, need, uses, year
from load_tests.modelling.check import CANNOT, Row
from load_tests.modelling.consult import between, shape
from load_tests.modelling.given import SITES, Assumed, Cost, Costs, Kind
from load_tests.report.page import PAGE_STYLE
from load_tests.report.svg import STYLE, Axis, Plot, number

COLOURS: Final = ("c1", "c2", "c3", "c4", "c5")
CURVE: Final = tuple(10 ** (step / 8) for step in range(17))
"""Scales from 1 to 100."""


def answers(model: Model, check: Sequence[Row] = (), checked: str = "") -> dict[str, Any]:
    """Everything as plain values."""
    given, costs = model.given, model.costs
    found: dict[str, Any] = {
        "costs_commit": costs.commit, "costs_machine": costs.machine, "checked_by": checked,
        "hospital_line_bps": round(hospital_line(given, costs)), "scales": {},
    }  # fmt: skip
    for scale in model.scales:
        peak = busiest(given, costs, scale)
        found["scales"][f"{scale:g}"] = {
            "busiest_hour": peak.hour, "consults": round(peak.consults), "need": _plain(need(peak, given, costs)),
            "year": {name: round(value) for name, value in asdict(year(given, costs, scale)).items()},
            "fullest_first": [
                {"what": one.name, "share": round(one.share, 4), "design": one.design}
                for one in uses(given, costs, scale)
            ],
        }  # fmt: skip
    found["by_hour"] = [_hour(one, need(one, given, costs)) for one in day(given, costs)]
    found["sensitivity_half_more"] = [asdict(one) for one in model.sensitivity()]
    found["check"] = [{**asdict(one), "ratio": one.ratio} for one in check]
    return found


def write(model: Model, folder: Path, check: Sequence[Row] = (), checked: str = "") -> Path:
    """``model.json`` and ``model.html``; the page's path.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = answers(model, check, checked)
    (folder / "model.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    page = folder / "model.html"
    page.write_text(html(model, check, checked), "utf-8")
    return page


def _plain(wanted: Need) -> dict[str, float | None]:
    values = {**{name: float(getattr(wanted, name)) for name in Need.__slots__}, "nodes": wanted.nodes}
    return {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}


def _hour(work: Work, wanted: Need) -> dict[str, Any]:
    names = ("consults", "consult_sessions", "idle_sessions", "joins", "pages", "commands", "crossings")
    return {
        "hour": work.hour, **{name: round(getattr(work, name), 3) for name in names}, **_plain(wanted),
        "sites": {site: {name: round(value) for name, value in asdict(work.flows[site]).items()} for site in SITES},
    }  # fmt: skip


# ---------------------------------------------------------------- plots


def plots(model: Model) -> list[Plot]:
    """Of the page, in its order."""
    given, costs = model.given, model.costs
    hours = day(given, costs)
    needs = [need(one, given, costs) for one in hours]
    return [
        by_hour("Consults at a time", "consults", hours, [("all", lambda index: hours[index].consults)]),
        by_hour("Cores by hour", "cores", hours, [
            ("media", lambda index: needs[index].media_cores),
            ("signalling", lambda index: needs[index].signalling_cores)]),
        by_hour("Between sites and the hub's nodes", "Gbit/s", hours, [
            *((f"from {site}", _rate(hours, site, "up_bps")) for site in ("partner", "elsewhere")),
            *((f"to {site}", _rate(hours, site, "down_bps")) for site in SITES)]),
        by_hour("Stores by hour", "a second", hours, [
            ("redis operations", lambda index: needs[index].redis_ops),
            ("database rows", lambda index: needs[index].rows)]),
        growth("How full at the busiest hour", "share of what may be used", model),
        nodes(model),
    ]  # fmt: skip


def _rate(hours: Sequence[Work], site: str, name: str) -> Callable[[int], float]:
    return lambda index: float(getattr(hours[index].flows[site], name)) / 1e9  # type: ignore[index]


def by_hour(title: str, unit: str, hours: Sequence[Work], lines: Sequence[tuple[str, Callable[[int], float]]]) -> Plot:
    """Steps over a day."""
    values = [[line(index) for index in range(len(hours))] for _, line in lines]
    most = max([1e-9, *(max(one) for one in values)])
    plot = Plot(title, Axis("hour of the day", 0, 24), Axis(unit, 0, most * 1.1))
    for (name, _), each, colour in zip(lines, values, COLOURS, strict=False):
        steps = [(float(at), value) for hour, value in enumerate(each) for at in (hour, hour + 1)]
        plot.line(steps, colour, name)
    return plot


def growth(title: str, unit: str, model: Model) -> Plot:
    """What there is one of, against the size."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for scale in CURVE:
        for one in uses(model.given, model.costs, scale):
            curves.setdefault(one.name, []).append((scale, max(1e-4, one.share)))
    fullest = sorted(curves, key=lambda name: -curves[name][-1][1])[: len(COLOURS)]
    most = max(curves[name][-1][1] for name in fullest)
    plot = Plot(title, Axis("times the size", 1, 100, log=True), Axis(unit, 1e-3, max(10.0, most), log=True))
    for name, colour in zip(fullest, COLOURS, strict=False):
        plot.line(curves[name], colour, name)
    plot.level(1.0, "full")
    return plot


def nodes(model: Model) -> Plot:
    """Nodes against the size, as far as there is an answer."""
    found = [(scale, need(busiest(model.given, model.costs, scale), model.given, model.costs)) for scale in CURVE]
    media = [(scale, one.media_nodes) for scale, one in found]
    signalling = [(scale, one.signalling_nodes) for scale, one in found if math.isfinite(one.signalling_nodes)]
    most = max(value for _, value in [*media, *signalling])
    plot = Plot("Nodes", Axis("times the size", 1, 100, log=True), Axis("number", 1, max(10.0, most), log=True))
    plot.line(media, "c1", "machines for media")
    plot.line(signalling, "c3", "server processes")
    if len(signalling) < len(media):
        plot.note = "Processes end where hints of others' consults fill each one's core."
    return plot


# ---------------------------------------------------------------- page


def html(model: Model, check: Sequence[Row], checked: str) -> str:
    """A page that needs nothing but itself."""
    given, costs = model.given, model.costs
    size = given.size
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Model</title><style>{PAGE_STYLE}{STYLE}</style>",
        f"<h1>{number(size.hospitals.value)} hospitals, {number(size.doctors.value)} doctors, "
        f"{number(size.expert_teams.value)} expert teams</h1>",
        f"<p><small>Costs measured at {escape(costs.commit[:12])} on {escape(costs.machine)}; "
        "assumptions and costs are listed below with where they come from.</small></p>",
        _table("The busiest hour", ("", *(f"{scale:g}x" for scale in model.scales)), _peaks(model)),
        *(_first(model, scale) for scale in model.scales),
        *(plot.svg() for plot in plots(model)),
        _table("A consult of each kind", ("kind", "people", "packets/s in", "packets/s out", "Mbit/s in",
                                         "Mbit/s out", "at once"), _kinds(model)),
        _table("Copies between sites at the busiest hour, by way of the nodes, Gbit/s",
               ("from \\ to", *SITES), _between(model)),
        _check(check, checked),
        _table("Half as much again of one number: nodes, rows a year, and what is fullest change by",
               ("number", "cores", "rows", "fullest"), [
                   (one.name, f"{one.nodes:.3f}", f"{one.rows:.3f}", f"{one.first:.3f}")
                   for one in model.sensitivity()[:24]]),
        _table("Measured", ("cost", "value", "from", "how"), [
            (name, f"{number(one.value)} {one.unit}", one.run, one.how) for name, one in _costs(costs)]),
        _table("Assumed", ("what", "value", "why"), [
            (name, f"{number(one.value)} {one.unit}", one.why) for name, one in _assumed(model)]),
        "</html>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{''.join(f'<th>{escape(one)}' for one in head)}</tr>{cells}</table>"


def _peaks(model: Model) -> list[Sequence[str]]:
    peaks = [busiest(model.given, model.costs, scale) for scale in model.scales]
    needs = [need(one, model.given, model.costs) for one in peaks]
    years = [year(model.given, model.costs, scale) for scale in model.scales]
    lines: list[tuple[str, list[float]]] = [
        ("consults at a time", [one.consults for one in peaks]),
        ("people in them", [one.consult_sessions for one in peaks]),
        ("connected besides", [one.idle_sessions for one in peaks]),
        ("media cores", [one.media_cores for one in needs]),
        ("media nodes", [one.media_nodes for one in needs]),
        ("signalling cores", [one.signalling_cores for one in needs]),
        ("server processes", [one.signalling_nodes for one in needs]),
        ("media ports, UDP and TCP", [float(one.ports) for one in needs]),
        ("nodes' lines together, Gbit/s", [one.hub_bps / 1e9 for one in needs]),
        ("memory of sessions, GB", [one.memory_gb for one in needs]),
        ("redis operations a second", [one.redis_ops for one in needs]),
        ("redis core", [one.redis_core for one in needs]),
        ("redis memory, GB", [one.redis_gb for one in needs]),
        ("links of the event chain a second", [one.links for one in needs]),
        ("database rows a second", [one.rows for one in needs]),
        ("crossings of the lock a second", [one.crossings for one in peaks]),
        ("database rows a year", [one.rows for one in years]),
        ("database TB a year", [one.database_bytes / 1e12 for one in years]),
        ("waveform archive TB a year", [one.archive_bytes / 1e12 for one in years]),
    ]
    return [
        (name, *(number(value) if math.isfinite(value) else "cannot" for value in values)) for name, values in lines
    ]


def _first(model: Model, scale: float) -> str:
    rows = [(one.name, f"{one.share:.1%}", one.design) for one in uses(model.given, model.costs, scale)]
    return _table(f"What runs out first at {scale:g}x", ("of this there is one", "full", "what would answer it"), rows)


def _kinds(model: Model) -> list[Sequence[str]]:
    peak = max(model.given.by_hour.shares)
    found: list[Sequence[str]] = []
    for kind in model.given.kind:
        all_ = shape(kind, model.costs.ecg_bytes_per_s.value).all
        begun = getattr(model.given.size, kind.per).value * kind.each_day.value * peak / 3600
        found.append((
            kind.name, str(sum(kind.people.values())), number(all_.up_pps), number(all_.down_pps),
            f"{all_.up_bps / 1e6:.2f}", f"{all_.down_bps / 1e6:.2f}", number(begun * kind.minutes.value * 60),
        ))  # fmt: skip
    return found


def _between(model: Model) -> list[Sequence[str]]:
    peak = max(model.given.by_hour.shares)
    found = dict.fromkeys(((one, two) for one in SITES for two in SITES), 0.0)
    for kind in model.given.kind:
        begun = getattr(model.given.size, kind.per).value * kind.each_day.value * peak / 3600
        for way, bits in between(kind, model.costs.ecg_bytes_per_s.value).items():
            found[way] += bits * begun * kind.minutes.value * 60
    return [(one, *(f"{found[one, two] / 1e9:.2f}" for two in SITES)) for one in SITES]


def _check(check: Sequence[Row], checked: str) -> str:
    if not check:
        return "<h2>Checked against a run</h2><p>Not on this page: give it a run with --check.</p>"
    rows = [
        (
            one.what,
            one.unit,
            number(one.predicted),
            number(one.measured),
            "-" if one.ratio is None else f"{one.ratio:.2f}",
        )
        for one in check
    ]
    notes = "".join(f"<li>{escape(one)}</li>" for one in CANNOT)
    table = _table(f"Checked against {checked}", ("", "unit", "predicted", "measured", "ratio"), rows)
    return f"{table}<p>What this run cannot show:</p><ul>{notes}</ul>"


def _costs(costs: Costs) -> list[tuple[str, Cost]]:
    return [(name, one) for name in Costs.model_fields if isinstance(one := getattr(costs, name), Cost)]


def _assumed(model: Model) -> list[tuple[str, Assumed]]:
    given = model.given
    found = [("working_days", given.working_days)]
    for table in ("size", "connected", "lock", "keep", "limits"):
        part = getattr(given, table)
        found += [(f"{table}.{name}", getattr(part, name)) for name in type(part).model_fields]
    found += [(f"{kind.name}: {name}", one) for kind in given.kind for name, one in _of(kind)]
    return [*found, ("by_hour", Assumed(value=24, unit="weights", why=given.by_hour.why))]


def _of(kind: Kind) -> list[tuple[str, Assumed]]:
    return [("each_day", kind.each_day), ("minutes", kind.minutes)]
