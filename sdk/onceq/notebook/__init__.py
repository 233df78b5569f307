"""onceq in a notebook: live cells (`live.py` follows, `screen.py` shows) and the `%%llm` magic (`magics.py`).

Nothing here is imported before a stream is shown or `%load_ext onceq` is run, and nothing needs a widget extension.
"""
