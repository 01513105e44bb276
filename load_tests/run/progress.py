"""The line that a person sees who waits for a run."""

from __future__ import annotations

import time

from load_tests.report.record import Record


def line(record: Record) -> str:
    """Where it stands now."""
    sessions, joined = (int(value) for value in record.curve.now()[:2])
    totals, server = record.totals, record.server[-1] if record.server else {}
    packets = record.counts.get(max(record.counts, default=0) - 1, {}).get("rtp_in", 0)
    parts = [
        f"{time.time() - record.started_s:6.1f} s", f"{joined}/{sessions} joined",
        f"{totals.counts['joins_done']} complete",
        f"{totals.counts['tracks_received']}/{totals.counts['tracks_expected']} tracks", f"{packets} packets/s in",
    ]  # fmt: skip
    if "server_cpu" in server:
        parts.append(f"server {server['server_cpu'] + server.get('worker_cpu', 0):.2f} cores")
    parts.append(f"generators {sum(hand.cpu[-1] for hand in record.hands if hand.cpu):.2f} cores")
    if totals.counts["errors"]:
        parts.append(f"{totals.counts['errors']} errors")
    return ", ".join(parts)
