"""What the lock adds to a read of a hospital's record."""
