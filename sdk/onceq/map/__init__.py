"""`client.map`: a frame and a prompt become a frame of answers, each distinct row paid once.

Read in this order: `rows.py` (what is mapped, the prompt of a row), `asks.py` (requests and their keys), `cache.py`
(what is remembered beside the notebook), `intake.py` (rows become distinct asks), `run.py` (the flow: post, listen,
fill), `ends.py` (the one stream of a map's batch), `allowance.py` and `money.py` (the limit, the forecast), `quote.py`
(dry run), `output.py` (schemas), `row.py` and `frame.py` (what comes back), `progress.py` (the bar), `plan.py` (all of
it put together, as both clients drive it).
"""

from onceq.map.quote import MapQuote
from onceq.map.row import MapRow

__all__ = ["MapQuote", "MapRow"]
