"""confluent-kafka behind two ports: the source of changes and the dead-letter topic."""
