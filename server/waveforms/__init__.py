"""Waveforms on the server: kept for minutes, kept for good, exported, measured, fed to those without a data channel.

``desk`` knows every stream of every consult; ``tap`` brings it what the media workers took. From there a frame goes to
the live ``ring`` (15 minutes, memory or redis), to the ``archive`` (for good), to ``feed`` (WebSockets) and, once a
second, to ``heart`` (computed heart rate). ``snapshots`` keeps what somebody pointed at. The ``core`` package has
everything that needs no clock and no I/O.
"""
