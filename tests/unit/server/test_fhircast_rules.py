"""Every rule of the hub's contract is held by a test with real HTTP and real sockets, not by the core's tests alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

INTEGRATION = Path(__file__).parents[2] / "integration" / "server"


def test_each_of_the_thirty_rules_has_a_test_over_real_sockets() -> None:
    """(H1) to (H30)"""
    cited: set[int] = set()
    for path in INTEGRATION.glob("test_server_fhircast*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                cited |= {int(number) for number in re.findall(r"\(H(\d+)\)", ast.get_docstring(node) or "")}
    assert cited == set(range(1, 31))
