"""Faults that the simulated OMS injects: scripted answers, rules, refusals of items, and their outcome.

Belongs here: everything that makes the sandbox misbehave on request.
Does not: its regular behaviour, which is one level up.
"""
