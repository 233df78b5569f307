"""What a page says while there is nothing to show: how to make the first job."""

from __future__ import annotations

from typing import Final

import streamlit as st

from onceq_dashboard.access import ApiAccess, base_url

_CURL: Final = """curl {url}/v1/jobs \\
  -H "Authorization: Bearer $(cat .onceq/api-key)" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "openai/gpt-4o-mini", "prompt": "Why is the sky blue?"}}'"""


def first_job(access: ApiAccess, period: str = "24 hours") -> None:
    """Two ways to submit a job, ready to paste."""
    st.info(f"No jobs in the last {period}. Submit one, and it appears here:", icon=":material/rocket_launch:")
    st.code('onceq ask "Why is the sky blue?"', language="bash")
    st.code(_CURL.format(url=base_url(access)), language="bash", wrap_lines=True)
