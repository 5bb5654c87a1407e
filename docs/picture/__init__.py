"""Draws the README's pictures of the service at work, the main dashboard and the status page; ``make picture``.

``scenario`` runs the service under load, with a burst and an outage. The dashboard is drawn from its JSON and a real
Prometheus: ``panels`` reads the part of Grafana's model that our dashboards use, ``units`` formats values as Grafana
does, ``page.html`` has the layout, plotly.js draws the lines, and ``chromium`` turns it into a PNG file. The status
page is drawn as it is, during the outage.
"""
