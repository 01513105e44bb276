"""Carrying a run out: the server, the generator processes, and the one coordinator that keeps the time."""
