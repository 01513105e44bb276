"""Decisions about case packs: no clock, no I/O."""
