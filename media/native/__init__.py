"""The one function in C, where it was built; ``media.aio.fanout`` loads it."""
