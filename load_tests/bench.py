"""`make bench`: every figure of the project on standard output, one JSON object a line."""

from __future__ import annotations

import sys

from load_tests import browser_bench, relay_bench


def main() -> int:
    """Run all benchmarks, or only those named on the command line (``relay``, ``browser``)."""
    suites = {"relay": relay_bench.run, "browser": browser_bench.run}
    wanted = sys.argv[1:] or list(suites)
    unknown = [name for name in wanted if name not in suites]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(suites)}", file=sys.stderr)
        return 2
    for name in wanted:
        suites[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
