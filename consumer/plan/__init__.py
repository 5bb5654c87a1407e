"""What the service would send for records of its topics.

Belongs here: reading a range of records, playing them to the engine on a virtual clock, and the report.
Does not: decisions about what leaves (``core``), decoding (``avro``), bodies (``oms``). Nothing here sends, commits or
joins a group.
"""
