"""The command ``trace``: where an item's changes are, by what all members say and by what the topics have.

Belongs here: reading the records of a time for one item, asking members, putting both together, and the report.
Does not: what a process remembers (``core.trace``), decoding (``avro``), dead letters' format (``dead_letters``).
Nothing here sends, commits or joins a group.
"""
