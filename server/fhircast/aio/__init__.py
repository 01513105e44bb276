"""Shell: HTTP, sockets, the store and the bus."""
