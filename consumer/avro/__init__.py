"""From bytes to frames: wire formats, schemas, columnar decoding, and fastavro as reference and fallback.

Belongs here: everything that knows Avro or a schema registry.
Does not: the OMS's rules for items, which are in ``core.changes.rules``.
"""
