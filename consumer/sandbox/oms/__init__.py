"""A simulated OMS over HTTP: tokens, refresh requests, jobs, and a view of the inventory that it holds.

Belongs here: the documented behaviour of the OMS, as an ASGI application.
Does not: injected faults, which are in ``sandbox.oms.faults``.
"""
