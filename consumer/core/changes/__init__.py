"""Changes as columns: the schema of a frame, the item rules of the OMS, blocks of rows, and coalescing.

Belongs here: functions over whole frames that know nothing of requests, partitions or the OMS.
Does not: decoding bytes (``consumer.avro``), or deciding when rows leave (``core.location``).
"""
