"""The Kafka consumer: source, assignments, topics, client options, error classes and the checks before the start.

Belongs here: everything that talks to brokers on behalf of the consumer group.
Does not: the dead-letter topic (``consumer.dead_letters``), or decisions about offsets (``core.partition``).
"""
