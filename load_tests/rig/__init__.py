"""What benchmarks and sessions are built of: a cheap WebRTC peer, its packets, lines, the processes measured."""
