"""Capacity traces of the property tests; ``generate.py`` says how they were made."""
