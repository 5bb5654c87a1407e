"""For people without Kafka or an OMS: an embedded broker, an OMS simulator, a generator and the demo."""
