"""The dead-letter topic: header format, writer, the originals of failed changes, and reading them back.

Belongs here: everything that writes, reads, shows or redrives a dead letter.
Does not: the decision that a change is one (``core.changes.rules``, ``core.location.bisection``).
"""
