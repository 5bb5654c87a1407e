"""Draws a dashboard with what a real Prometheus answers, as a PNG for the README; ``make picture``.

Panels, titles, places and queries come from the dashboard's JSON; ``panels`` reads as much of Grafana's model as our
dashboards use, ``units`` has its units, ``page.html`` the look, and the lines are drawn by plotly.js in Chromium.
"""
