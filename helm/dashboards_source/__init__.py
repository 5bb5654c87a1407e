"""The source of the Grafana dashboards in helm/inventory-refresh/dashboards; ``make dashboards`` writes those.

``parts`` has the vocabulary (queries, panels, variables), one module has each row's panels, ``__main__`` puts the rows
into dashboards. What is here is no part of the chart's package.
"""
