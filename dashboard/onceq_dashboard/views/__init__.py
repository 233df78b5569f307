"""The pages. Each has `show(door)`, which Streamlit runs from top to bottom."""
