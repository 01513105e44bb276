"""Write ``folds.json``: consults, their events, and the state after each as `signaling.core.fold.apply` has it.

    python -m tests.vectors.signaling.generate [--check]

The browser replays them in ``web_client/src/store/apply.test.ts``. Sequences come
from seeded scripts, so the file changes only when a rule or a message does.
"""

from __future__ import annotations

import json
import random
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from signaling.core import messages as m
from signaling.core.consult import apply
from signaling.core.ids import ParticipantId
from signaling.core.model import Consult
from tests.signaling_world import AIMS, HAPPENINGS, PEOPLE, Aimed, Asked, Happened, Step, empty, events_of

PATH = Path(__file__).with_name("folds.json")
SEEDS = range(1, 13)
STEPS = 60


def draw(rng: random.Random) -> Step:
    """One step; what is refused makes no event and costs nothing."""
    chance = rng.random()
    if chance < 0.15:
        who = rng.choice(PEOPLE).participant
        return Happened(rng.choice(HAPPENINGS), who)
    if chance < 0.25:
        return Asked(rng.choice(PEOPLE), m.Join())
    if chance < 0.27:
        return Asked(rng.choice(PEOPLE), m.Leave())
    return Aimed(rng.choice(AIMS), rng.randrange(8))


def fold(seed: int) -> dict[str, Any]:
    """One sequence."""
    rng = random.Random(seed)
    script: list[Step] = [Asked(person, m.Join()) for person in (*PEOPLE[:3], PEOPLE[6])]
    script += [Aimed(what, 0) for what in ("open", "bind", "stream", "mark", "unplug", "vitals")]
    script += [Aimed("report", seed), Happened("no strip", PEOPLE[0].participant)]
    script += [Aimed(what, 0) for what in ("mark", "freeze", "report open", "share", "select", "share")]
    script += [Aimed("select", 1), Aimed("erase", 0), *(Aimed(what, 0) for what in ("produce", "stop"))]
    script += [Aimed("anchor", 1), Aimed("ask again", 3), Aimed("anchor closed", seed)]
    script += [Aimed(what, 0) for what in ("highlight", "unlight", "highlight", "page freeze", "note", "note error")]
    script += [Aimed(what, seed) for what in ("page release", "skip", "tick", "wrong", "open", "tick", "page freeze")]
    script += [Happened(what, PEOPLE[0].participant) for what in ("program out", "program said", "program in")]
    script += [draw(rng) for _ in range(STEPS)]
    if seed % 3 == 0:
        script += [Asked(PEOPLE[0], m.Join()), Asked(PEOPLE[0], m.EndConsult())]
    if seed % 3 == 1:
        script += [Happened("lost", ParticipantId("doc")), Happened("adopted", ParticipantId("doc"))]
    start = empty()
    state, history, states = start, list[m.AnyEvent](), list[Consult]()
    for now_ms, step in enumerate(script, 1_700_000_000_000):
        for event in events_of(state, step, now_ms):
            state = apply(state, event)
            history.append(event)
            states.append(state)
    assert reduce(apply, history, start) == state
    return {
        "seed": seed,
        "snapshot": start.model_dump(mode="json"),
        "events": [event.model_dump(mode="json") for event in history],
        # Every tenth state and the last: a wrong fold shows soon, and the file stays readable.
        "states": {str(s.revision): s.model_dump(mode="json") for s in states if s.revision % 10 == 0 or s is state},
    }


def render() -> str:
    """The file's text."""
    return json.dumps([fold(seed) for seed in SEEDS], ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main(argv: list[str]) -> int:
    """Write the file, or with ``--check`` say whether it is up to date."""
    if "--check" in argv:
        return 0 if PATH.exists() and PATH.read_text(encoding="utf-8") == render() else 1
    PATH.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
