"""What it takes to try the service without Kafka or an OMS: embedded broker, generator, publisher and demo.

Belongs here: programs for people and tests; nothing in production imports them.
Does not: anything the service needs to run.
"""
