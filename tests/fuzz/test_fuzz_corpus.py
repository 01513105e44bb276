"""The whole corpus and some seeded mutations of it, under the laws of ``targets``."""

import pytest

from tests.fuzz.engine import Trace
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import TARGETS

MUTATIONS = 4_000
TRACED_EVERY = 5


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_keeps_the_laws(name: str) -> None:
    target = TARGETS[name]
    trace = Trace(target.modules)
    for data in target.corpus():
        trace.run(target, data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_keep_the_laws(name: str) -> None:
    """The same inputs at every run; ``make fuzz`` tries others."""
    target = TARGETS[name]
    mutator, trace, corpus = Mutator(2026, target.words), Trace(target.modules), target.corpus()
    for number in range(int(MUTATIONS * target.share)):
        data = target.vary(mutator, corpus)
        try:
            if number % TRACED_EVERY:
                target.run(data)
            else:
                trace.run(target, data)
        except Exception:
            print(f"input: {data.hex()}")
            raise
