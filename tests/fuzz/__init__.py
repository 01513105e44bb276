"""Fuzzers of everything that reads a stranger's or a bad peer's bytes.

``targets`` says what is fuzzed and by which law, ``mutate`` makes inputs, ``engine`` runs them with coverage
as a guide, ``corpus/<target>/`` keeps what is worth running again: valid examples and everything
that ever broke a law (``crash-<hash>``). ``python -m tests.fuzz`` runs as long as one likes; the tests here run
the whole corpus and some seeded mutations of it. ``live`` does the same to a relay with real peers.
"""
