"""The OMS over HTTP: tokens, refresh requests, get-job calls. Each response is classified once.

Belongs here: everything that knows the wire format of the OMS and its gateways.
Does not: what to do after an answer, which ``core.oms`` decides.
"""
