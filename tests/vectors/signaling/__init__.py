"""Golden event sequences: what Python folds, the browser must fold to the same."""
