"""One partition: open offsets, the committable offset, recovery after a takeover, and commit metadata.

Belongs here: what decides how far may be committed and read.
Does not: Kafka clients (``consumer.kafka``), or what becomes of the changes (``core.location``).
"""
