"""What may be wrong with bytes that claim to be a waveform frame."""


class MalformedFrame(ValueError):
    """These bytes are not a waveform frame of this version; the only error any bytes can cause."""


class UnsupportedFrame(MalformedFrame):
    """A frame of a version or codec this program does not speak."""
