"""Simulated participants that speak the real wire: HTTP, Socket.IO, ICE, DTLS, SRTP, SCTP; no codec."""
