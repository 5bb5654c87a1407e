"""Redrive: sends the changes of dead letters back to their topics, unless the log has a newer change of the same item.

Belongs here: decoding dead letters, planning, checking against the log, and publishing in transactions.
Does not: reading and printing dead letters, which is one level up.
"""
