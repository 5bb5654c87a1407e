#!/bin/sh
# Creates the topics of config.yaml. KAFKA_TOPICS is the path of kafka-topics.sh.
set -eu
for topic in inventory-changes:6 inventory-refresh.dead-letters:1; do
  "$KAFKA_TOPICS" --bootstrap-server "$BOOTSTRAP_SERVERS" --create --if-not-exists --topic "${topic%:*}" --partitions "${topic#*:}" --replication-factor 1
done
