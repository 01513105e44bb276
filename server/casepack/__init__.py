"""The case pack: what an invited expert gets before the call, and what of it is missing."""
