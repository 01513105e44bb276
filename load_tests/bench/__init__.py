"""`make bench`: what single parts cost; ``python -m load_tests.bench NAME``."""
