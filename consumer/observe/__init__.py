"""How the service is observed: log events, Prometheus metrics, the status page and health probes.

Belongs here: everything that turns a fact or a snapshot into text or numbers.
Does not: anything that the service needs to do its work, or facts themselves (``consumer.facts``).
"""
