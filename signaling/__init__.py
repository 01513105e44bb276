"""Who is in a consult, what they may do, and what all of them see now."""
