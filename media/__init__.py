"""Bytes from one peer to many: the relay, its workers and the waveforms."""
