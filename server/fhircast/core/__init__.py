"""Pure: what the hub decides. Time, ids and random values come in, messages and closings go out."""
