"""The simulator's own routes: what to do (/control) and what it has cost (/meter). They take no key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.control import ControlRequest
from onceq_service.simulator.dialect import decode
from onceq_service.simulator.endpoint import SharedState
from onceq_service.simulator.frames import encode


def own_routes(state: SharedState) -> list[BaseRoute]:
    """GET PUT DELETE /control, GET DELETE /meter, GET /livez."""
    own = _Own(state)
    return [
        Route("/livez", own.livez),
        Route("/control", own.show_control, methods=["GET"]),
        Route("/control", own.put_control, methods=["PUT"]),
        Route("/control", own.reset_control, methods=["DELETE"]),
        Route("/meter", own.show_meter, methods=["GET"]),
        Route("/meter", own.reset_meter, methods=["DELETE"]),
    ]


class _Own:
    def __init__(self, state: SharedState) -> None:
        self.control = state.control
        self.meter = state.meter

    async def livez(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def show_control(self, _: Request) -> Response:
        return _json(self.control.shown())

    async def put_control(self, request: Request) -> Response:
        try:
            self.control.apply(decode(await request.body(), ControlRequest))
        except RefusedError as refused:
            return _json({"error": refused.message}, refused.status)
        return _json(self.control.shown())

    async def reset_control(self, _: Request) -> Response:
        self.control.reset()
        return Response(status_code=204)

    async def show_meter(self, request: Request) -> Response:
        """`job` picks one job, `text=1` adds the texts, `refused=1` the rows that are not billed."""
        query = request.query_params
        with_text, refused = query.get("text") == "1", query.get("refused") == "1"
        return _json(self.meter.report(job=query.get("job"), refused=refused, with_text=with_text))

    async def reset_meter(self, _: Request) -> Response:
        self.meter.reset()
        return Response(status_code=204)


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
