"""`consilium gateway`: the hospital's side of the lock. It dials out, keeps what must cross, and lets nothing in."""
