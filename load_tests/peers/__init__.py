"""Other relays and other servers, measured beside ours with the same clients in one run."""
