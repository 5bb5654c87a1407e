#!/bin/sh
# Publishes changes of the same items again and again, with a pause of PAUSE_SECONDS, until it is ended. ROUNDS limits that.
set -u
round=0
while [ "$round" -lt "${ROUNDS:-1000000}" ]; do
  round=$((round + 1))
  # Other seeds make other counts. The registry may still be starting: then the next round has more luck.
  inventory-refresh produce --count 2000 --locations 40 --seed "$round"
  # Nine rounds apart, 21,000 items of one location: a request of 12,000 at once, and the rest when it is old enough.
  if [ $((round % 9)) -eq 3 ]; then
    inventory-refresh produce --count 21000 --locations 1 --seed "$round"
  fi
  sleep "$PAUSE_SECONDS"
done
