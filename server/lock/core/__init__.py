"""Pure parts of the lock: frames, numbering, proofs, clock offset."""
