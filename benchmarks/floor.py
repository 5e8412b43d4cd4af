"""The floor: a raw ASGI application under the same server that reads the body and sends a fixed answer of the usual size.

Its processes share connections as the data plane's do, so that a figure compares the work and not the luck of who accepted.
"""

import asyncio
import sys
from functools import partial
from socket import socket

import uvicorn
import uvloop

from serving.dataplane.listen import Listener

BODY = (
    b'{"model_name":"bench","model_version":"1","parameters":{"prediction_id":"01a2046a-9365-72ca-b82c-4ef2442c9c77","slot":"blue"},"outputs":['
    b'{"name":"label","datatype":"INT64","shape":[1],"data":[0]},{"name":"probabilities","datatype":"FP32","shape":[1,2],"data":[0.99,0.01]}]}'
)
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]}
END = {"type": "http.response.body", "body": BODY}


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(END)


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self.servers.append(Listener(sock, partial(loop.connect_accepted_socket, self._protocol), loop))

    def _protocol(self):
        return self.config.http_protocol_class(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


if __name__ == "__main__":
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning", proxy_headers=False, server_header=False
    )
    uvloop.run(Server(config).serve(sockets=[socket(fileno=int(sys.argv[1]))]))
