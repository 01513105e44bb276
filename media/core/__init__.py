"""Pure media plane: no socket, no clock, no randomness of its own."""
