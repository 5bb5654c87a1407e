"""Where an item's changes are: what is pending of it, and what has become of those that have left.

Belongs here: what answers that from the engine's state, without changing it, and a bounded memory of what has left.
Does not: reading topics and asking other processes, which is the command's (``consumer.trace``).
"""
