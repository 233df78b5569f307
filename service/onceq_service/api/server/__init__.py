"""How it is run: processes that share a socket, and HTTP as they speak it."""
