"""What a run found: histograms, figures, verdicts, and the files that show them."""
