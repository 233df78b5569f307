"""A month of believable traffic, written through the store's own scripts: onceq with something in it."""
