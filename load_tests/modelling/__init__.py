"""Round the model: its costs measured, its answers held against a run and drawn."""
