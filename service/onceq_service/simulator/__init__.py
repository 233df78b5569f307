"""Three providers in one small HTTP server: their wire formats, their faults, and a meter of what they would bill.

Point the official SDKs at it: OpenAI at `<url>/openai/v1`, Anthropic at `<url>/anthropic`, Bedrock at `<url>/bedrock`.
Any key will do. `python -m onceq_service.simulator --help` tells the settings; a prompt may hold them as well:
`[[sim tokens=50 tps=100 fault=429 times=1]]`.
"""

from onceq_service.simulator.knobs import Knobs
from onceq_service.simulator.server import SimulatorServer, serve

__all__ = ["Knobs", "SimulatorServer", "serve"]
