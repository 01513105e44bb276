"""Pure parts of the gateway: what crosses, what may cross, what is asked."""
