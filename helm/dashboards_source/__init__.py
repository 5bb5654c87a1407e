"""The source of the Grafana dashboards in helm/inventory-refresh/dashboards, which ``make dashboards`` generates.

``parts`` has the building blocks (queries and panels), each row has a module with its panels, ``dashboards`` combines
the rows. The source is not part of the packaged chart.
"""
