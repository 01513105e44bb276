"""The part of a generator that touches every packet, in C; built at install, and done without where it was not."""
