"""The OMS over HTTP: tokens, refresh requests, get-job, and each reply classified once.

Belongs here: everything that knows the wire format of the OMS and its gateways.
Does not: what follows from an answer, which is decided in ``core.oms``.
"""
