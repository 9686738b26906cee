"""A FastAPI service with one coordinator for its whole life.

    COORDINATOR_HOSTS=127.0.0.1:2181 uvicorn --app-dir examples fastapi_app:app

    curl localhost:8000/greeting/ada                            says hello, in the words of /config
    curl -X PUT localhost:8000/config -H 'content-type: application/json' -d '{"greeting": "moin"}'
    curl localhost:8000/health                                  503 while the session is not connected

The service is to be seen below /services/greeter while it lives; its configuration changes while it runs.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from coordinator import AsyncCoordinator, NodeExistsError, Phase


class Config(BaseModel):
    greeting: str = "hello"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The coordinator belongs to this event loop: it is made, used and closed in it.
    async with AsyncCoordinator() as zk:
        with suppress(NodeExistsError):  # another instance was first
            await zk.create("/config", Config(), model=Config)
        app.state.zk = zk
        app.state.config = await zk.watch("/config", model=Config)
        await zk.ephemeral(f"/services/greeter/{socket.gethostname()}-{os.getpid()}", b"127.0.0.1:8000")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/greeting/{name}")
async def greet(name: str, request: Request) -> str:
    config = request.app.state.config.value or Config()  # a copy that is kept fresh: no round trip
    return f"{config.greeting}, {name}"


@app.put("/config")
async def configure(config: Config, request: Request) -> int:
    stat = await request.app.state.zk.set("/config", config, model=Config, timeout=5.0)
    return stat.version


@app.get("/health")
async def health(request: Request, response: Response) -> dict[str, str]:
    session = request.app.state.zk.session
    if session.phase is not Phase.CONNECTED:
        response.status_code = 503
    return {"session": session.phase}
