"""Dead letters for people: what is there, one in full, and those whose cause is mended sent back to their topic."""
