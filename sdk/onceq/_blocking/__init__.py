"""The parts of `Client` (`_client.py`), a topic each."""
