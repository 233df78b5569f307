"""The parts of `AsyncClient` (`_async_client.py`), a topic each."""
