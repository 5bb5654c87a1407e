"""Every decision of the service, as plain functions and objects: what is sent, committed, paused or retried.

Belongs here: state and decisions without clock, randomness, threads, I/O or logging; time and jitter are arguments.
Does not: clients, files, log lines and metrics, which live in the rooms around it.
"""
