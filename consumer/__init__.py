"""The inventory refresh consumer: inventory changes from Kafka become few, well-sized refresh requests to the OMS."""
