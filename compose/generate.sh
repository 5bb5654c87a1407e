#!/bin/sh
# Publishes changes of the same items, round after round, with PAUSE_SECONDS in between; at most ROUNDS rounds.
set -u
round=0
while [ "$round" -lt "${ROUNDS:-1000000}" ]; do
  round=$((round + 1))
  # Each seed makes other quantities. If the registry is still starting, the round fails, and the next one follows.
  inventory-refresh produce --count 2000 --locations 40 --seed "$round"
  # Every ninth round, 21,000 items of one location: a request of 12,000 at once, the rest when it reaches window.max_age.
  if [ $((round % 9)) -eq 3 ]; then
    inventory-refresh produce --count 21000 --locations 1 --seed "$round"
  fi
  sleep "$PAUSE_SECONDS"
done
