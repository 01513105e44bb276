"""Pure signalling: messages, the consult state machine and the permission table."""
