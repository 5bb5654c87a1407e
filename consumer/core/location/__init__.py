"""One location: its window, its request in flight, its back-off or hold, and the bisection of a refused request.

Belongs here: what decides which changes of a location are sent, and when.
Does not: offsets (``core.partition``) or the state of the OMS as a whole (``core.oms``).
"""
