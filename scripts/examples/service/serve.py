"""Explains images over HTTP, with an exported SavedModel and TensorFlow alone. An example to start from.

    analyzer.export("served", preprocess="unit", render="heatmap")
    python scripts/examples/service served --port 8501
    curl --data-binary @digit.png --header "Content-Type: image/png" http://127.0.0.1:8501/explain

answers {"target": 7, "score": 0.99, "predictions": [...], "heatmap": "..."}: the explained output, the prediction for it
and for all outputs, and the explanation as a PNG in base64. `GET /` says what is served, `GET /health` that it is. Whatever
goes wrong is answered with {"error": "..."}. An explainer that was exported with target="input" explains what is asked
for, POST /explain?target=3 (else what is predicted); one of a random method takes ?seed=1 (else 0).

The folder `service` is all of it, to be copied and changed: the HTTP side is here, `explainer` holds the SavedModel, and
`still_image` refuses what must not be decoded.

Images are brought to the model's size and channels. Transparency is dropped, and an orientation in EXIF is not followed.
What is too large is refused before it is read or decoded; where the model takes any size, so is what would have too many
pixels for it. Connections, the bodies of all requests together, and the images that are explained at a time are bounded:
who comes too many is answered 503. A network that is not trusted wants a proxy in front.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import re
import signal
import socket
import sys
import threading
import time
import traceback

from explainer import DECODERS, PIXELS, Explainer, Unsuitable
from still_image import Refused, check_image

# Seconds in which a request's header and its body have to come, in which what nobody wants is thrown away, and in which
# there has to be room for a body.
_HEADER, _BODY, _DISCARD, _WAIT = 20, 20, 2, 10
_PIECE = 2**16
# Bytes of a request's header.
_MOST_HEADER = 2**16

_CROWDED = json.dumps({"error": "There are too many connections at the moment; ask again later."})
_TOO_MANY = (
    f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(_CROWDED)}\r\n"
    f"Retry-After: 1\r\nConnection: close\r\n\r\n{_CROWDED}"
).encode()

_METHODS = {"/": "GET", "/health": "GET", "/explain": "POST"}


class Share:
    """Bytes that requests take and give back; who wants more than are free waits, and after `_WAIT` seconds is refused.

    Args:
        total: how many there are.
    """

    def __init__(self, total):
        self._free, self._changed = total, threading.Condition()

    @contextlib.contextmanager
    def taken(self, count):
        """Holds so many bytes until the block ends."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= count, _WAIT):
                raise Refused(503, "There are too many requests at the moment; ask again later.")
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


class Lines:
    """The lines of a header, of which all together are bounded, not only each and their number."""

    def __init__(self, stream):
        self._stream, self._left = stream, _MOST_HEADER

    def readline(self, most):
        """The next line."""
        line = self._stream.readline(min(most, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("header")
        return line


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: its requests, one after the other, and their answers in JSON."""

    protocol_version = "HTTP/1.1"
    # Of requests that do not say one; the answers of HTTP/0.9 have no status.
    default_request_version = "HTTP/1.0"
    # Seconds without a byte of a request, or before the next one.
    timeout = 10
    unread = False

    def handle(self):
        """A client that goes away is no error of ours."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def handle_one_request(self):
        """A client that sends its header byte by byte has no longer than others: what it sends then is not read."""
        self._watch = threading.Timer(_HEADER, self._stop_reading)
        self._watch.daemon = True
        self._watch.start()
        try:
            super().handle_one_request()
        finally:
            self._watch.cancel()

    def parse_request(self):
        """Reads the header."""
        stream, self.rfile = self.rfile, Lines(self.rfile)
        try:
            return super().parse_request()
        finally:
            self.rfile = stream
            self._watch.cancel()

    def _stop_reading(self):
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def finish(self):
        """Closing on bytes that nobody read would reset the connection, and the client would not see the answer."""
        super().finish()
        end = time.monotonic() + _DISCARD
        with contextlib.suppress(OSError):
            if self.unread:
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(_DISCARD)
            while self.unread and time.monotonic() < end and self.connection.recv(_PIECE):
                pass

    def answer(self):
        """Answers a request of any method."""
        absent = "0" if self.command in ("GET", "HEAD") else "unknown"
        self.unread = self.headers.get("Content-Length", absent) != "0" or "Transfer-Encoding" in self.headers
        try:
            self._reply(200, self._result())
        except Refused as refused:
            self._reply(refused.status, {"error": str(refused)})
        except OSError:
            # Of the connection, which is left.
            raise
        except Exception:
            # Whatever went wrong with one request, the next ones are served.
            traceback.print_exc()
            self._reply(500, {"error": "The image could not be explained; the service's log says why."})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def send_error(self, code, message=None, explain=None):
        """What is no HTTP, as JSON too."""
        self.unread = True
        self._reply(code, {"error": message or "This request is not understood."})

    def _result(self):
        path = self._path()
        if path not in _METHODS:
            raise Refused(404, "Expected POST /explain, GET / or GET /health.")
        method = _METHODS[path]
        if self.command != method and (self.command, method) != ("HEAD", "GET"):
            raise Refused(405, f"Expected {method} {path}.")
        explainer = self.server.explainer
        if path == "/explain":
            arguments = explainer.arguments(self.path.partition("?")[2])
            content_type, length = self._announced()
            with self.server.bodies.taken(length):
                body = self._body(length)
                check_image(body, content_type)
                return explainer(body, content_type, **arguments)
        if path == "/health":
            return {"status": "ok"}
        size = {"height": explainer.height, "width": explainer.width, "channels": explainer.channels}
        return {"method": explainer.method, "input": size, "limit": self.server.limit}

    def _path(self):
        return self.path.partition("?")[0]

    def _announced(self):
        """The type and the length of the request's body, as its header says."""
        # Without a header, it is text/plain.
        content_type = self.headers.get_content_type()
        if content_type not in DECODERS:
            raise Refused(415, f"Expected Content-Type {' or '.join(DECODERS)}, but it is {content_type}.")
        length = self._length()
        if length > self.server.limit:
            raise Refused(413, f"Expected at most {self.server.limit} bytes, but Content-Length is {length}.")
        return content_type, length

    def _body(self, length):
        body = self._read(length)
        self.unread = False
        if not body:
            raise Refused(400, "Expected a PNG or JPEG as the body, but it is empty.")
        return body

    def _length(self):
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths or "Transfer-Encoding" in self.headers:
            raise Refused(411, "Expected Content-Length, and the body in one piece.")
        # More digits than any size has would make Python refuse to read them.
        if len(lengths) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
            raise Refused(400, "Expected one number of bytes as Content-Length.")
        return int(lengths[0])

    def _read(self, length):
        """So many bytes; a client that sends them one by one has no longer than others."""
        body, end = bytearray(), time.monotonic() + _BODY
        while len(body) < length:
            try:
                piece = self.rfile.read1(min(length - len(body), _PIECE))
            except TimeoutError:
                end = 0
            if time.monotonic() > end:
                raise Refused(408, f"Expected {length} bytes as Content-Length says, but got {len(body)} in time.")
            if not piece:
                raise Refused(400, f"Expected {length} bytes as Content-Length says, but got {len(body)}.")
            body += piece
        return bytes(body)

    def _reply(self, status, result):
        content = json.dumps(result, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 405:
            self.send_header("Allow", _METHODS[self._path()])
        if status == 503:
            self.send_header("Retry-After", "1")
        if self.unread or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    """The service; when it is closed, requests that it has are answered first.

    Args:
        address: `(host, port)`.
        explainer: an `Explainer`.
        limit: of a body, in bytes.
        together: of all bodies that are held at a time, in bytes; at least `limit`.
        connections: that are open at a time.
    """

    # Threads that still run TensorFlow when Python ends may crash it; instead they are waited for.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address, explainer, limit, together=64 * 2**20, connections=64):
        self.explainer, self.limit, self._open = explainer, limit, set()
        self.bodies, self._connections = Share(max(limit, together)), connections
        super().__init__(address, Handler)

    def process_request(self, request, client_address):
        """Notes that a connection is open; one too many is told so, without a thread, and nothing of it is read."""
        if len(self._open) >= self._connections:
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(_TOO_MANY)
            self.shutdown_request(request)
            return
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        """Notes that a connection is closed."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self):
        """Lets connections that wait for a request end, and waits for the others."""
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()


def _when_told_to_stop(action):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: action())


def _positive(text):
    """A whole number above 0."""
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501, help="0: a free one")
    parser.add_argument("--limit", type=_positive, default=10, metavar="MIB", help="of a request's body; default: 10")
    parser.add_argument(
        "--together", type=_positive, default=64, metavar="MIB", help="of all bodies at a time; default: 64"
    )
    parser.add_argument("--connections", type=_positive, default=64, metavar="N", help="open at a time; default: 64")
    parser.add_argument(
        "--pixels",
        type=_positive,
        default=PIXELS,
        metavar="N",
        help="that a model of any size is given of an image: its memory grows with them; default: %(default)s",
    )
    options = parser.parse_args(arguments)
    _when_told_to_stop(sys.exit)
    try:
        explainer, limits = Explainer(options.folder, options.pixels), (options.limit * 2**20, options.together * 2**20)
        server = Server((options.host, options.port), explainer, *limits, options.connections)
    except Unsuitable as error:
        parser.error(str(error))
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host}, port {options.port}: {error}")
    # An exception could come while a connection is handed to its thread; and shutdown waits for this thread.
    _when_told_to_stop(lambda: threading.Thread(target=server.shutdown).start())
    with server:
        print(f"Serving {server.explainer.method} on http://{options.host}:{server.server_port}", flush=True)
        server.serve_forever()
