"""Everything needed to try the service without Kafka or an OMS: embedded broker, generator, publisher and demo.

Belongs here: programs for trying things out and for tests; the service itself does not import them.
Does not: anything the service needs to run.
"""
