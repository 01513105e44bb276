"""``python -m tests.fuzz [target ...]``: fuzz for ``CONSILIUM_FUZZ_SECONDS`` (30) each; exit 1 when a law broke.

``CONSILIUM_FUZZ_SEED`` repeats a run. What broke a law is in
``tests/fuzz/corpus/<target>/crash-<hash>`` and belongs into the tree, with its fix.
"""

import asyncio
import os
import sys
import time

from tests.fuzz import seeds
from tests.fuzz.engine import explore
from tests.fuzz.live import LIVE, explore_handshakes, explore_live
from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> int:
    """Run; the exit code."""
    if arguments == ["--seeds"]:
        print(f"{seeds.write()} written")
        return 0
    seconds = float(os.environ.get("CONSILIUM_FUZZ_SECONDS", "30"))
    seed = int(os.environ.get("CONSILIUM_FUZZ_SEED", str(time.time_ns())))
    wanted = arguments or [*TARGETS, *LIVE]
    broken = 0
    for name in wanted:
        if name in LIVE:
            found = asyncio.run(explore_live(name, seconds, seed))
        else:
            found = explore(TARGETS[name], seconds, seed)
        print(f"{name:12} {found.inputs:9} inputs  {found.grown:5} new ways  {len(found.crashes)} broken  seed {seed}")
        for file, text in found.crashes.items():
            print(f"  {file}: {text}")
        broken += len(found.crashes)
    if not arguments:
        print(f"handshake    {asyncio.run(explore_handshakes(20, seed, 2.0)):9} spoilt records")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
