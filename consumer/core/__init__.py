"""The pure heart: no I/O, no clock, no randomness, no threads. Time and jitter come in as numbers, decisions go out as data."""
