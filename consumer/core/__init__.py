"""The pure heart: no I/O, no clock, no randomness, no threads. Time and jitter come in, decisions go out as data."""
