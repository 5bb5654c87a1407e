"""What people and machines see: log events, Prometheus metrics, the status page and health probes.

Belongs here: everything that turns a fact or a snapshot into text or numbers.
Does not: anything that the service depends on to do its work.
"""
