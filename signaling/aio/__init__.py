"""Shell of the signalling plane: Socket.IO, sessions, stores and buses."""
