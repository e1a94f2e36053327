"""An API for a server of ASGI, application, and for one of WSGI, app."""

import asyncio
import collections
import threading

FILE = b"0123456789abcdef" * 65536
asked = collections.Counter()
lock = threading.Lock()


def answer(method, path, headers, body):
    """The status, fields and body of an answer."""
    with lock:
        asked[path] += 1
        times = asked[path]
    if path.startswith("/once/") and times == 1:
        return 401, [("WWW-Authenticate", "Bearer")], b"no"
    if path.startswith("/asked/"):
        return 200, [], str(asked[path[6:]]).encode()
    if path == "/protocol":
        return 200, [], b"1.1"
    if path == "/file" and headers.get("if-none-match") == '"1"':
        return 304, [("ETag", '"1"')], None
    if path == "/file":
        return 200, [("ETag", '"1"')], FILE
    if path == "/empty416":
        return 416, [("Content-Range", "bytes */5")], b""
    if path == "/broken":
        return 500, [("Content-Type", "text/html")], b"<h1>broken</h1>"
    return 200, [], body


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/reset"):
        environ["gunicorn.socket"].shutdown(2)
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return (f"data: {n}\n\n".encode() for n in range(5))
    headers = {"if-none-match": environ.get("HTTP_IF_NONE_MATCH")}
    body = environ["wsgi.input"].read()
    status, fields, body = answer(environ["REQUEST_METHOD"], path, headers, body)
    if body is not None:
        fields = fields + [("Content-Length", str(len(body)))]
    start_response(f"{status} Words", fields)
    return [body] if body and environ["REQUEST_METHOD"] != "HEAD" else []


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for n in range(5):
            await send({"type": "http.response.body", "body": f"data: {n}\n\n".encode(), "more_body": True})
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b""})
        return
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    status, fields, body = answer(scope["method"], path, headers, body)
    if path.startswith("/reset"):
        raise ConnectionResetError  # the answer is uvicorn's
    if body is not None:
        fields = fields + [("Content-Length", str(len(body)))]
    await send({"type": "http.response.start", "status": status, "headers": [(n.lower().encode(), v.encode()) for n, v in fields]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body or b""})
