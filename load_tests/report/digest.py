"""From what was measured to the summary: derived figures, verdicts, and where it ran."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from load_tests.plan.scenario import Bound, Scenario
from load_tests.report.histogram import Histogram
from load_tests.report.record import Record
from load_tests.report.recovery import Recovery, recoveries
from load_tests.report.slope import Slope, later_half, slope_of
from load_tests.report.summary import DERIVED, KEPT, NOTHING_LOST, Machine, Summary, describe, judge
from load_tests.report.validity import GeneratorState, between_ms, busiest, exhausted, reasons
from load_tests.report.witness import beside, of_witnesses

if TYPE_CHECKING:
    from load_tests.run.crew import Hand

STOLEN: Final = 0.02
"""Share of the machine that its host may take before a reader must know it."""
OUTAGES: Final = {"picture back": "picture", "wave back": "wave", "signalling back": "joined"}
"""Events of a session that end an outage, and of what."""


def summarise(record: Record, *, same_host: bool) -> Summary:
    """The whole run in figures."""
    scenario, totals = record.scenario, record.totals
    generators = tuple(_generator(hand) for hand in record.hands)
    derived = derive(record)
    because = reasons(
        generators, looks_late=record.looks_late, looks=len(record.server), clock_jump_ms=record.clock_jump_s * 1000
    )
    started = datetime.datetime.fromtimestamp(record.started_s, datetime.UTC)
    commit, dirty = source()
    return Summary(
        id=f"{started:%Y%m%dT%H%M%SZ}-{scenario.name}-{commit[:8] or 'nogit'}",
        scenario=scenario.name, scenario_hash=hash_of(scenario), seed=scenario.seed,
        started=started.isoformat(timespec="seconds"), planned_s=scenario.duration_s,
        lasted_s=round(record.length_s, 2), measured_s=round(measured_s(record), 2), interrupted=record.interrupted,
        broken=record.broken, valid=not because, invalid_because=tuple(because), commit=commit, dirty=dirty,
        same_host=same_host, own_server=record.own_server, machine=machine(record.load_before),
        sessions=len(record.planned), consults=scenario.consults.count, generators=generators,
        distributions={name: describe(name, one) for name, one in sorted(totals.distributions.items())},
        counts=dict(sorted(totals.counts.items())), derived=derived, errors=dict(totals.errors.most_common()),
        faults=tuple((round(at_s, 2), kind) for at_s, kind in record.faults),
        bounds=tuple(
            judge(bound, totals, derived, measured=measured_s(record) > 0)
            for bound in (*scenario.bound, *implied(record), *record.bounds)
        ),
        recoveries=recovered(record), notes=tuple(notes(record, same_host)),
        witnesses=tuple(one.state() for one in record.witnesses), beside=beside(record.witnesses, totals.distributions),
    )  # fmt: skip


def hash_of(scenario: Scenario) -> str:
    """By which runs of the same scenario, with the same numbers, are known."""
    return hashlib.sha256(scenario.model_dump_json().encode()).hexdigest()[:16]


def notes(record: Record, same_host: bool) -> list[str]:
    """What a reader must know to read the figures."""
    found = ["Sessions are simulated: media are pre-encoded and not decoded, pages are not drawn."]
    if same_host:
        found.append("Generators and server shared a machine and its cores.")
    found += record.notes
    lines = sorted({one.line for one in record.scenario.population} - {"lan"})
    if lines:
        found.append(
            f"Lines {', '.join(lines)} are emulated in the generators; signalling has their delay, not their loss."
        )
    if record.totals.events_left_out:
        found.append(f"{record.totals.events_left_out} events are left out of events.csv.gz.")
    if record.totals.acks_left_out:
        found.append(f"{record.totals.acks_left_out} acknowledged actions were too many to be looked for in the log.")
    if (stolen := stolen_share(record)) is not None and stolen > STOLEN:
        found.append(f"The machine's host took {stolen:.1%} of its cores for others while it was measured.")
    if missing := len(record.faults) - len(record.proofs):
        found.append(f"{missing} fault was still under way when the run ended.")
    if record.ghosts is not None and record.ghosts.missed:
        seen = record.ghosts
        found.append(
            f"Ghosts were looked for in {seen.looked_at} of {seen.consults} consults; "
            f"the others could not be looked at: {seen.missed}."
        )
    if record.kept is not None:
        found += [f"Kept data could not be checked: {record.kept.problem}."] if record.kept.problem else []
        found += record.kept.examples
    found += of_witnesses(record.witnesses)
    if not same_host:
        unsure_ms = between_ms([_generator(hand) for hand in record.hands])
        found.append(f"Differences of clocks are taken out; times between two machines are good to {unsure_ms:.1f} ms.")
    return found


def implied(record: Record) -> list[Bound]:
    """What holds in every run of a server of our own: nothing of clinical meaning is lost."""
    names = NOTHING_LOST if record.kept is not None else ()
    return [Bound(figure=name, percentile="value", at_most=0) for name in names]


def kept_figures(record: Record) -> dict[str, float | None]:
    """What was found in the data folder; None where it could not be looked into."""
    kept = record.kept
    if kept is None:
        return {}
    return {name: None if kept.problem else float(getattr(kept, name)) for name in KEPT}


def recovered(record: Record) -> tuple[Recovery, ...]:
    """The time after each fault."""
    outages: dict[str, list[tuple[float, int, float]]] = {"picture": [], "wave": [], "joined": []}
    for at_s, session, _, what, value in record.totals.events:
        if what in OUTAGES:
            outages[OUTAGES[what]].append((at_s - record.started_s, session, value / 1000))
    turns = [
        (int(turn.partition(":")[0]), asked_s - record.started_s, heard_s - record.started_s)
        for turn, (asked_s, heard_s, _) in record.totals.last_heard.items()
    ]
    turning = {one.consult for one in record.planned if one.leads and one.behaviour.turn_every_s}
    looks = record.curve.totals(record.length_s + 1)
    found = recoveries(record.faults, record.length_s, looks, outages, turns, len(turning))
    proofs = [*record.proofs, *[""] * len(record.faults)]
    return tuple(one.model_copy(update={"proof": proof}) for one, proof in zip(found, proofs, strict=False))


def measured_s(record: Record) -> float:
    """Seconds that speeds were measured in; 0 for a run that ended while it warmed up."""
    return max(0.0, record.length_s - record.scenario.measure_from_s)


def derive(record: Record) -> dict[str, float | None]:
    """Figures that are one number; None where what they are of was not there."""
    counts, seconds, seen = record.totals.counts, measured_s(record), record.totals.distributions
    samples = [one for one in record.server if record.measured(one["t"]) and one["t"] <= record.length_s]
    worker = mean([one["worker_cpu"] for one in samples if "worker_cpu" in one])
    server = mean([one["server_cpu"] + one.get("worker_cpu", 0.0) for one in samples if "server_cpu" in one])
    sent = mean([one["packets_out"] for one in samples if "packets_out" in one])
    generators = sum(mean(hand.cpu) or 0.0 for hand in record.hands)
    per_core = sent / worker if sent and worker else None
    tried = counts["joins_tried"] + counts["commands"] + counts["pages_read"]
    return {
        "joins_share": share(counts["joins_done"], counts["joins_tried"]),
        "tracks_share": share(counts["tracks_received"], counts["tracks_expected"]),
        "loss_share": share(counts["rtp_lost"], counts["rtp_lost"] + counts["rtp_in"]),
        "error_share": share(counts["errors"], tried),
        "ecg_missing_share": share(counts["ecg_missing"], counts["ecg_missing"] + counts["ecg_in"]),
        "consults_finished": finished(record),
        "packets_in_per_s": rounded(per_second(counts["rtp_in"], seconds)),
        "packets_out_per_s": rounded(per_second(counts["rtp_out"], seconds)),
        "received_mbps": rounded(per_second(counts["rtp_in_bytes"] * 8 / 1e6, seconds)),
        "frozen_s": rounded(seen["freeze_ms"].total / 1000 if "freeze_ms" in seen else 0.0) if seconds else None,
        "server_cores": rounded(server),
        "stolen_share": rounded(stolen_share(record)),
        "us_per_packet": rounded(1e6 / per_core if per_core else None),
        "packets_per_core": rounded(per_core),
        **growths(samples),
        "sessions_per_generator_core": rounded(_usual_sessions(record) / generators if generators else None),
        **{name: rounded(value) for name, value in record.stores.items() if name in DERIVED},
        **_lock(record, samples),
        **kept_figures(record),
        **haunting(record),
    }  # fmt: skip


def haunting(record: Record) -> dict[str, float | None]:
    """Ghosts, and in how many consults they were looked for; of some only, none found is not none."""
    seen = record.ghosts
    if seen is None:
        return {"ghosts": None}
    is_known = seen.found > 0 or seen.looked_at == seen.consults
    return {"ghosts": float(seen.found) if is_known else None, "ghost_consults": float(seen.looked_at)}


def _lock(record: Record, samples: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Of the lock; nothing where no hospital had a gateway."""
    if record.lock_mismatch is None:
        return {}
    return {
        "crossings_per_s": rounded(record.totals.counts["lock_crossed"] / record.length_s),
        "lock_mismatch": float(record.lock_mismatch),
        "gateway_cores": rounded(mean([one["gateway_cpu"] for one in samples if "gateway_cpu" in one])),
    }


def finished(record: Record) -> float | None:
    """Consults in which everybody who was to come got everything; None when not all events of the run were kept."""
    if record.totals.events_left_out:
        return None
    complete = {session for _, session, _, what, _ in record.totals.events if what == "complete"}
    each: dict[int, bool] = {}
    for one in record.planned:
        if one.behaviour.who != "hospital":
            each[one.consult] = each.get(one.consult, True) and one.number in complete
    return float(sum(each.values()))


def stolen_share(record: Record) -> float | None:
    """Of the machine's cores, what its host gave to others, mean."""
    return mean([one["stolen"] for one in record.server if "stolen" in one and record.measured(one["t"])])


def growths(samples: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """What must not grow in a server whose load stands, an hour, over the later half; None: too short to say."""
    both = growth(samples, "server_rss_mb", "worker_rss_mb")
    found = {
        "memory_slope_mb_per_h": both,
        "server_memory_mb_per_h": growth(samples, "server_rss_mb"),
        "worker_memory_mb_per_h": growth(samples, "worker_rss_mb"),
        "descriptors_per_h": growth(samples, "server_descriptors", "worker_descriptors"),
        "threads_per_h": growth(samples, "server_threads", "worker_threads"),
        "tasks_per_h": growth(samples, "server_tasks"),
    }
    return {
        **{name: None if one is None else rounded(one.per_hour) for name, one in found.items()},
        "memory_slope_error_mb_per_h": None if both is None else rounded(both.error),
    }


def growth(samples: Sequence[dict[str, float]], *names: str) -> Slope | None:
    """Of a sum of gauges; samples that lack one of them, as while a process is away, are left out."""
    points = [(one["t"], sum(one[name] for name in names)) for one in samples if all(name in one for name in names)]
    return slope_of(later_half(points))


def _usual_sessions(record: Record) -> float:
    """Mean over the whole run."""
    return mean([values[0] for _, values in record.curve.totals(record.length_s)]) or 0.0


def _generator(hand: Hand) -> GeneratorState:
    def late(name: str) -> float | None:
        return rounded(hand.counts.distributions.get(name, Histogram()).percentile(99))

    counts = hand.counts.counts
    return GeneratorState(
        name=hand.name, sessions=len(hand.numbers), plays=hand.plays, cpu_share=round(busiest(hand.cpu), 3),
        late_p99_ms=late("generator_late_ms"), play_late_p99_ms=late("generator_play_late_ms"),
        rss_mb=round(hand.rss_mb, 1), sent=counts["rtp_out"], own_loss=counts["send_failed"] + counts["own_drops"],
        exhausted=exhausted(hand.counts.errors), silent_s=round(hand.silent_s, 1),
        clock_ahead_ms=round(hand.clock_off_s * 1000, 3), clock_error_ms=round(hand.clock_error_s * 1000, 3),
        clock_drift_ms=round(hand.clock_drift_s * 1000, 3),
        lost=hand.lost,
    )  # fmt: skip


def machine(load_before: float | None = None) -> Machine:
    """This one.

    Args:
        load_before: its load of the minute before the run; without it that of now.
    """
    text = _read("/proc/cpuinfo")
    model = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limits = [
        f"{name}={text}" for name in ("cpu.max", "memory.max") if (text := _read(f"/sys/fs/cgroup/{name}").strip())
    ]
    return Machine(
        cpu=model or platform.machine(), cores=os.cpu_count() or 1, memory_gb=round(memory, 1),
        kernel=platform.release(), python=platform.python_version(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "unknown",
        load_before=round(os.getloadavg()[0] if load_before is None else load_before, 2), container=" ".join(limits),
    )  # fmt: skip


def source() -> tuple[str, bool]:
    """Commit of this source tree and whether anything in it is changed; empty outside a repository."""
    folder = Path(__file__).parent
    answers, git = [], shutil.which("git") or "git"
    for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([git, *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
            answers.append(done.stdout.strip())
    return (answers[0], bool(answers[1])) if len(answers) == 2 else ("", False)


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None


def per_second(times: float, seconds: float) -> float | None:
    """None when there was no time to measure in."""
    return times / seconds if seconds else None


def share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return round(part / whole, 6) if whole else None


def rounded(value: float | None) -> float | None:
    """To three places."""
    return None if value is None else round(value, 3)
