"""The status server: probes, metrics, the status page and its JSON.

Belongs here: what is kept of the facts to be shown, how it is put into words, and the HTTP server for it.
Does not: metrics themselves (``consumer.observe.metrics``), or anything that changes what the service does.
"""
