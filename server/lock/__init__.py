"""The lock between a hospital and the hub: the wire both ends share, and the hub's end of it."""
