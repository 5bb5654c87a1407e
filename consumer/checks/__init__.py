"""The command ``check``: settings and everything outside, before or while the service runs.

Belongs here: judgements, which turn what the outside answered into findings, and the order in which it is asked.
Does not: anything that sends a change, joins a group or commits; talking to Kafka (``kafka.inspection``) or the OMS.
"""
