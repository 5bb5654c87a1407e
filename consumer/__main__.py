"""``python -m consumer`` is the command ``inventory-refresh``."""

from consumer.cli import main

if __name__ == "__main__":
    main()
