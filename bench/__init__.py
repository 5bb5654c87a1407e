"""What the service costs and reaches, one case after another; ``make bench``.

``cases`` says what is measured, ``load`` makes the events, ``measure`` runs the service between two bare loops, and
``verify`` holds what the sink got against what was published. ``results`` and ``report`` turn rounds into medians, JSON
and tables, ``pictures`` into the two pictures of docs/performance.md. The service is the command ``run`` as a process
of its own; so are the ``sink`` that stands for the OMS and the ``bare`` loop. All listen on loopback only.
"""
