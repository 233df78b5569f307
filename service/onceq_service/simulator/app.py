"""The routes of the simulator.

POST /openai/v1/chat/completions                    POST /anthropic/v1/messages
POST /openai/v1/responses                           POST /bedrock/model/{model}/converse
GET  /openai/v1/responses/{id}                      POST /bedrock/model/{model}/converse-stream
POST /openai/v1/responses/{id}/cancel               GET PUT DELETE /control
GET  /openai/v1/models                              GET DELETE /meter    GET /livez
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from onceq_service.simulator.anthropic import Anthropic
from onceq_service.simulator.bedrock import Bedrock
from onceq_service.simulator.control import Control
from onceq_service.simulator.endpoint import CallEndpoint, SharedState
from onceq_service.simulator.journal import Journal
from onceq_service.simulator.knobs import Knobs
from onceq_service.simulator.meter import Meter
from onceq_service.simulator.openai_chat import OpenAIChat
from onceq_service.simulator.own_api import own_routes
from onceq_service.simulator.responses_api import responses_routes

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-5-mini", "o4-mini")
"""Shown by GET /openai/v1/models; every other id is served as well."""


def make_app(flags: Knobs, journal: Journal) -> Starlette:
    """One simulator, with a control and a meter of its own."""
    state = SharedState(Control(flags), Meter(journal))
    return Starlette(routes=[*_provider_routes(state), *own_routes(state)])


def _provider_routes(state: SharedState) -> list[BaseRoute]:
    return [
        Route("/openai/v1/chat/completions", CallEndpoint(OpenAIChat(), state), methods=["POST"]),
        *responses_routes(state),
        Route("/openai/v1/models", _models),
        Route("/anthropic/v1/messages", CallEndpoint(Anthropic(), state), methods=["POST"]),
        # A model may be an ARN with slashes in it, hence :path.
        Route("/bedrock/model/{model:path}/{action}", CallEndpoint(Bedrock(), state), methods=["POST"]),
    ]


async def _models(_: Request) -> Response:
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "onceq-simulator"} for name in MODELS]
    return JSONResponse({"object": "list", "data": models})
