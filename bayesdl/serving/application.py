"""The web application around a saved fit: /predict, /health, /metrics, /openapi.json."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from bayesdl.data.validation import DataError, ModelError
from bayesdl.posterior.core import AbstractPosterior
from bayesdl.posterior.means import central
from bayesdl.serving.gathering import Gatherer, compile_sizes
from bayesdl.serving.rows import (
    Limits,
    RequestError,
    as_records,
    read_rows,
    request_schema,
    response_schema,
)
from bayesdl.typing import Frame, Integer

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

INSTALL = 'bayesdl serve needs FastAPI and uvicorn: pip install "bayesdl[serve]"'
REFUSALS = {
    400: "The body is not JSON.",
    413: "The body has too many bytes.",
    422: "Rows that cannot be predicted, with their numbers.",
    503: "Too many requests wait.",
}


def application(
    posterior: AbstractPosterior,
    level: float = 0.9,
    limits: Limits = Limits(),
    compile_first: bool = True,
) -> FastAPI:
    """Return a web application that predicts rows.

    `POST /predict` takes `{"rows": [{"age": 61, "smoker": null}, ...]}`, where null is a missing
    cell, and answers `{"predictions": [{"mean": ..., "std": ..., "5%": ..., "95%": ...}, ...],
    "warnings": [...]}`, a prediction for each row, with the columns of
    `posterior.predict(rows).to_pandas(level)`. Rows that cannot be predicted are refused with
    their numbers, from 0. `GET /health` says that the model is ready, `GET /metrics` counts for
    Prometheus, and `GET /openapi.json` describes the rows.

    Args:
        posterior: the posterior of a model of tables.
        level: the probability of the intervals.
        limits: what a request may ask for.
        compile_first: whether what requests need is compiled before the first one.

    Raises:
        ModelError: for a model that does not predict rows of a table.
        ImportError: where FastAPI is not installed.

    Example:
        `uvicorn.run(bayesdl.serving.application(bdl.load("run.bdl")), port=8000)`
    """
    web = _libraries()
    central(level)
    fields = posterior.model.fields(posterior.schema, posterior.problem)
    if not fields:
        raise ModelError(
            f"{posterior.model.name} predicts from arguments of its own, and rows of a table are "
            "served: write the model as bdl.Formula, or call post.predict in a server of your own."
        )

    def predict(rows: Frame) -> Frame:
        return posterior.predict(rows).to_pandas(level)

    gatherer = Gatherer(predict, limits.waiting)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        gatherer.stop()

    if compile_first:
        compile_sizes(predict, _some_row(posterior))
    app = web.FastAPI(
        title=f"{posterior.model.name}, fitted with {type(posterior.engine).__name__}",
        docs_url=None,  # these pages would need scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    registry, count, seconds = _counters()

    async def answer(request: Any) -> Any:
        started, status = time.perf_counter(), "500"
        try:
            response = await _answered(request)
            status = str(response.status_code)
            return response
        # a fault of ours: the log has it, and the client gets JSON as ever
        except Exception:
            logging.getLogger(__name__).exception("A prediction failed.")
            return web.JSONResponse({"detail": "The prediction failed: see the log."}, 500)
        finally:
            count.labels(status).inc()
            seconds.observe(time.perf_counter() - started)

    async def _answered(request: Request) -> Response:
        try:
            rows = read_rows(await _body(request, limits), fields, limits)
            found = await asyncio.wrap_future(gatherer.ask(rows))
        except RequestError as error:
            return web.JSONResponse({"detail": str(error)}, error.status)
        except (DataError, ModelError) as error:
            return web.JSONResponse({"detail": str(error)}, 422)
        except queue.Full:
            return web.JSONResponse({"detail": f"{limits.waiting} requests wait: try later."}, 503)
        said = {"predictions": as_records(found.table), "warnings": list(found.warnings)}
        return web.JSONResponse(said)

    # types that FastAPI would look for among names of this module
    answer.__annotations__ = {"request": web.Request}
    app.post("/predict", response_class=web.JSONResponse, **_describe(fields, limits))(answer)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready", "model": repr(posterior.model)}

    @app.get("/metrics", response_class=web.PlainTextResponse)
    def metrics() -> Any:
        return web.PlainTextResponse(web.generate_latest(registry))

    return app


def serve(
    posterior: AbstractPosterior,
    host: str = "127.0.0.1",
    port: Integer = 8000,
    level: float = 0.9,
    limits: Limits = Limits(),
    ready: Callable[[str], None] = print,
) -> None:
    """Run the web application until it is interrupted.

    Args:
        posterior: the posterior of a model of tables.
        host: the address to listen at; by default other machines cannot reach it.
        port: the port; 0 for a free one.
        level: the probability of the intervals.
        limits: what a request may ask for.
        ready: what is told the address when requests are answered.

    Raises:
        ModelError: for a model that does not predict rows, or an address that cannot be used.
    """
    app = application(posterior, level, limits)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, int(port)), family=family)
    except (OSError, OverflowError) as error:
        raise ModelError(
            f"Cannot listen at port {port} of {host}: {error}. Choose another port or host."
        ) from None
    server = _libraries().uvicorn
    with listener:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listener.getsockname()[1]}")
        server.Server(server.Config(app, log_level="warning")).run(sockets=[listener])


async def _body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request, of which no more is read than is allowed.

    Raises:
        RequestError: if it is longer.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limits.bytes:
            raise RequestError(413, f"The body is longer than {limits.bytes} bytes.")
        parts.append(part)
    return b"".join(parts)


def _describe(fields: Any, limits: Limits) -> dict[str, Any]:
    """Return what the OpenAPI schema says of predictions."""

    def json_of(schema: dict) -> dict:
        return {"content": {"application/json": {"schema": schema}}}

    detail = {"type": "object", "properties": {"detail": {"type": "string"}}}
    refusals = {
        status: {"description": about, **json_of(detail)} for status, about in REFUSALS.items()
    }
    answered = {"description": "A prediction for each row.", **json_of(response_schema())}
    body = {"required": True, **json_of(request_schema(fields, limits))}
    return {
        "responses": {200: answered, **refusals},
        "openapi_extra": {"requestBody": body},
        "summary": "Predict rows, with intervals or probabilities",
    }


def _some_row(posterior: AbstractPosterior) -> Frame:
    """Return a row that can be predicted: the first of each category, numbers as they are."""
    import pandas as pd

    fields = posterior.model.fields(posterior.schema, posterior.problem)
    values: dict[str, Callable[[Any], Any]] = {
        "category": lambda field: (field.levels or ("",))[0],
        "date": lambda _: pd.Timestamp("2000-01-01"),
        "duration": lambda _: pd.Timedelta(days=1),
    }
    cells = {field.name: [values.get(field.kind, lambda _: 0.0)(field)] for field in fields}
    return pd.DataFrame(cells)


def _counters() -> tuple[Any, Any, Any]:
    """Return a registry for Prometheus with requests by status and their seconds."""
    web = _libraries()
    registry = web.CollectorRegistry()
    count = web.Counter("bayesdl_requests", "Requests by status.", ["status"], registry=registry)
    seconds = web.Histogram("bayesdl_seconds", "Seconds of a request.", registry=registry)
    return registry, count, seconds


class _Libraries:
    """The libraries of the extra `serve`, imported when a server is made."""

    def __init__(self) -> None:
        try:
            import uvicorn
            from fastapi import FastAPI, Request
            from fastapi.responses import JSONResponse, PlainTextResponse
            from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
        except ImportError as error:
            raise ImportError(f"{INSTALL} ({error})") from None
        self.uvicorn: Any = uvicorn
        self.FastAPI, self.Request = FastAPI, Request
        self.JSONResponse, self.PlainTextResponse = JSONResponse, PlainTextResponse
        self.CollectorRegistry, self.generate_latest = CollectorRegistry, generate_latest
        self.Counter, self.Histogram = Counter, Histogram


@functools.cache
def _libraries() -> _Libraries:
    """Import the libraries once."""
    return _Libraries()
