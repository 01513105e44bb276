"""What frames mean to the archive, to an export and to a heart rate; no I/O."""
