"""The one loop: it polls Kafka, feeds the engine, and carries out what the engine decides.

Belongs here: the order of a turn, rebalances, commits, snapshots, and following jobs to their end.
Does not: decisions (``consumer.core``) or clients (``avro``, ``kafka``, ``oms``, ``dead_letters``).
"""
