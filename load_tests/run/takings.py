"""What generators report, added to the record of the run."""

from __future__ import annotations

from typing import Any, Final

from load_tests.report.histogram import Histogram
from load_tests.report.record import Record
from load_tests.run.crew import Hand

KEPT_EACH_SECOND: Final = ("forward_ms", "ecg_age_ms", "event_ms", "ack_ms", "generator_late_ms")
OWN: Final = ("send_failed", "own_drops", "rtp_out")
"""Counts that a generator is judged by."""
JOINS: Final = ("joins_tried", "joins_done", "errors", "tracks_expected", "tracks_received", "refused", "lock_taken",
                "lock_unsure")  # fmt: skip
"""Counts of the warming up that count."""
NOTHING: Final[dict[str, Any]] = {
    "distributions": {}, "counts": {}, "errors": {}, "events": [], "events_left_out": 0, "last_heard": {},
}  # fmt: skip
LEAST_S: Final = 0.2
"""A CPU share over less would be noise."""


def take_report(record: Record, hand: Hand, report: dict[str, Any]) -> None:
    """Add one report of one generator."""
    at_s = report["at"] - record.started_s
    if hand.reported_s is not None:
        passed_s = at_s - hand.reported_s
        hand.silent_s = max(hand.silent_s, passed_s)
        if passed_s > LEAST_S:
            hand.cpu.append(report["cpu_s"] / passed_s)
    hand.reported_s, hand.rss_mb, hand.plays = at_s, report["rss_mb"], report.get("plays", "")
    ledger = report["ledger"]
    _own(record, hand, ledger, at_s)
    second = max(0, int(at_s))
    each = record.seconds.setdefault(second, {})
    for name in KEPT_EACH_SECOND:
        if name in ledger["distributions"]:
            each.setdefault(name, Histogram()).merge(Histogram.decode(ledger["distributions"][name]))
    counts = record.counts.setdefault(second, {})
    for name, times in ledger["counts"].items():
        counts[name] = counts.get(name, 0) + times
    record.totals.absorb(ledger if record.measured(at_s) else only_joins(ledger))
    for look in report["curve"]:
        record.curve.add(hand.name, look[0] - record.started_s, look[1:])


def _own(record: Record, hand: Hand, ledger: dict[str, Any], at_s: float) -> None:
    """What says how the generator itself fares; of the whole run but while witnesses come in (`Record.judged`)."""
    own = {name: one for name, one in ledger["distributions"].items() if name.startswith("generator_")}
    counted = {name: ledger["counts"].get(name, 0) for name in OWN}
    hand.counts.absorb({
        **NOTHING, "counts": counted, "errors": ledger["errors"], "distributions": own if record.judged(at_s) else {},
    })  # fmt: skip


def only_joins(ledger: dict[str, Any]) -> dict[str, Any]:
    """Of a report from the warming up: joins and what went wrong count, speeds do not."""
    return {
        **ledger, "last_heard": {},
        "distributions": {name: one for name, one in ledger["distributions"].items() if name.startswith("join_")},
        "counts": {name: times for name, times in ledger["counts"].items() if name in JOINS},
    }  # fmt: skip
