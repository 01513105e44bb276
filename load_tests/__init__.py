"""Simulated sessions that speak the wire, and side-by-side comparisons; README.md says what is where."""
