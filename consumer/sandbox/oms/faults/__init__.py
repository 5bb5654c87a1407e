"""Faults that the simulated OMS injects: scripted answers, fault rules, refused items, and the outcome for a call.

Belongs here: everything that makes the sandbox misbehave on request.
Does not: its regular behaviour, which is one level up.
"""
