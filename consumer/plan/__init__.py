"""What the service would send for records of its topics: reading them, a simulated run of the engine, and the report.

Nothing here sends, commits or joins a group. Decisions are the engine's (``core``), and bodies those of ``oms``.
"""
