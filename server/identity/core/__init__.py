"""Decisions about identity; time, bytes and random values come in as arguments."""
