"""Live waveforms, from what a block costs to what a doctor sees of it."""
