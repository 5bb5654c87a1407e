"""The dead-letter topic: its format, writing it with the originals of failed changes, reading it, and redrive.

Belongs here: everything that writes, reads, shows or redrives a dead letter.
Does not: the decision that a change is one (``core.changes.rules``, ``core.location.bisection``).
"""
