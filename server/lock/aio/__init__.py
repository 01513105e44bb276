"""The hub's end of the lock: connections, inbox, outbox, questions."""
