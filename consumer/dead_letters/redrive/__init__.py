"""Sending dead letters back to their source topic, unless the log has a newer change of the same item.

Belongs here: planning, checking against the log, and publishing in transactions.
Does not: listing and showing dead letters, which are one level up.
"""
