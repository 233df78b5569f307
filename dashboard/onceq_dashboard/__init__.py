"""onceq's dashboard: a Streamlit app that knows onceq only through its public API, by the SDK.

`python -m onceq_dashboard` serves it. A page reads (`source.py`), shapes (`frames.py`, `verdict.py`: pure), draws
(`charts.py`: pure) and lays out (`views/`).
"""
