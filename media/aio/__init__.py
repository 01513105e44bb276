"""Shell of the media plane: sockets, DTLS, SCTP, the worker process and its supervisor."""
