"""httpx behind one port: tokens, refresh requests, and what the OMS's answers mean."""
