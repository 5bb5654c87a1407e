"""The Kafka consumer: source, assignments, topics, options, errors and the checks before the start.

Belongs here: everything that talks to brokers on behalf of the group.
Does not: the dead-letter topic (``consumer.dead_letters``), or decisions about offsets (``core.partition``).
"""
