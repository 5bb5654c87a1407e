"""The OMS as the core sees it: what an answer means, circuit breaker, rate limiter, and the schedule of job queries.

Belongs here: decisions about the OMS that hold for all locations.
Does not: HTTP, tokens and reply formats (``consumer.oms``).
"""
