"""A simulated OMS over HTTP: tokens, refresh, jobs, and a view of the inventory that it holds.

Belongs here: the documented behaviour of the OMS, as an ASGI application.
Does not: misbehaviour on request, which is ``sandbox.oms.faults``.
"""
