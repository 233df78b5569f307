"""The pages. Each has `show(access)`, which Streamlit runs from top to bottom."""
