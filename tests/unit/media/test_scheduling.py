"""What the kernel says of a process that gave way, or asked to go first: each in one of its own, for it is for good."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from media.aio.scheduling import standing
from media.core.precedence import STEPS, Policy, behind, in_front

GIVE_WAY = """
import json, threading
from dataclasses import asdict
from media.aio.scheduling import give_way, standing
from media.core.precedence import STEPS
end = threading.Event()
early, kept = [threading.Thread(target=end.wait, daemon=True) for _ in range(2)]
early.start(), kept.start()
own = give_way(but=[kept.native_id])
late = threading.Thread(target=end.wait, daemon=True)
late.start()
told = [own, give_way(but=[kept.native_id]), *(standing(one.native_id) for one in (early, late, kept))]
end.set()
print(json.dumps([asdict(one) for one in told]))
"""
GO_FIRST = """
import json
from dataclasses import asdict
from media.aio.scheduling import go_first, standing
print(json.dumps([asdict(standing()), asdict(go_first()), asdict(standing())]))
"""
FOLLOW = """
import json, os
from dataclasses import asdict
from media.aio.scheduling import follow_nice, standing
os.nice(3)
follow_nice()
print(json.dumps(asdict(standing())))
"""


def run(program: str) -> Any:
    """What it prints, in a session of its own as every process of ours that must not hear Ctrl-C."""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, start_new_session=True)
    return json.loads(found.stdout)


def test_a_server_that_gave_way_stands_behind_with_all_threads_but_the_one_that_starts_workers() -> None:
    """Also with threads that were started later; a second call changes nothing."""
    own, again, early, late, kept = run(GIVE_WAY)
    wanted = behind(standing())
    for thread in (own, again, early, late):
        assert (thread["policy"], thread["nice"]) == (wanted.policy, wanted.nice)
    assert (kept["policy"], kept["nice"]) == (standing().policy, standing().nice)
    assert own["session_nice"] in (None, STEPS if standing().policy is Policy.OTHER else 0)
    assert again == own


def test_a_worker_has_the_turns_that_the_kernel_grants() -> None:
    """Where it grants none of its own (before Linux 6.12) nothing is changed, and that is said."""
    before, told, after = run(GO_FIRST)
    assert told == after
    assert after["turn_us"] == (in_front(standing()).turn_us if before["turn_us"] else 0)
    assert {**after, "turn_us": 0} == {**before, "turn_us": 0}


def test_a_session_is_as_nice_as_the_process_that_it_is_of() -> None:
    found = run(FOLLOW)
    assert found["nice"] == standing().nice + 3
    assert found["session_nice"] in (None, found["nice"])
