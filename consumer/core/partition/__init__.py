"""One partition: open offsets, the committable offset, recovery after a takeover, and commit metadata.

Belongs here: what decides how far a partition may be committed and read.
Does not: Kafka clients (``consumer.kafka``), or what happens to the changes (``core.location``).
"""
