"""Identity with its storage, hashing threads and counters."""
