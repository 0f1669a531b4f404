"""Explains images over HTTP, with an exported SavedModel and TensorFlow alone. An example to start from.

    analyzer.export("served", preprocess="unit", render="heatmap")
    python scripts/serve_example.py served --port 8501
    curl --data-binary @digit.png --header "Content-Type: image/png" http://127.0.0.1:8501/explain

answers {"target": 7, "score": 0.99, "predictions": [...], "heatmap": "..."}: the explained output, the prediction for it
and for all outputs, and the explanation as a PNG in base64. `GET /` says what is served, `GET /health` that it is. Whatever
goes wrong is answered with {"error": "..."}. An explainer that was exported with target="input" explains what is asked
for, POST /explain?target=3; one of a random method takes ?seed=1 (else 0).

Images are brought to the model's size and channels. Transparency is dropped, and an orientation in EXIF is not followed.
What is too large is refused before it is read or decoded. A network that is not trusted wants a proxy in front, which
also limits the number of connections.
"""

import argparse
import base64
import contextlib
import http.server
import json
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.parse
import zlib

import tensorflow as tf

_PIXELS = 16_000_000
# A progressive JPEG may ask for the whole image again with every scan, of which common encoders write about ten.
_SCANS = 100
# Images that are decoded and explained at a time.
_AT_ONCE = 2
# Seconds in which a request's header and its body have to come, and in which what nobody wants is thrown away.
_HEADER, _BODY, _DISCARD = 20, 20, 2
_PIECE = 2**16

_METHODS = {"/": "GET", "/health": "GET", "/explain": "POST"}

_DECODERS = {"image/png": tf.io.decode_png, "image/jpeg": tf.io.decode_jpeg}
_ADVICE = 'Export with analyzer.export(folder, preprocess="unit", render="heatmap"), or with another preprocess.'
# What a signature may take besides the image; a seed is 0 where the request does not say it.
_ARGUMENTS = {
    "target": lambda number: tf.constant([number], tf.int32),
    "seed": lambda number: tf.constant(number, tf.int64),
}
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class Refused(Exception):
    """A request that is not answered; `status` is the HTTP status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Unsuitable(Exception):
    """A SavedModel that cannot be served."""


# What an image says of itself, read without decoding it ------------------------------------------------------------------
def check_image(body, content_type):
    """Raises `Refused` for what is not one still image of the type, or has too many pixels."""
    if not body.startswith(_MAGIC[content_type]):
        raise Refused(400, f"Expected a PNG or JPEG of the type that Content-Type says, {content_type}; this is none.")
    height, width = {"image/png": png_size, "image/jpeg": jpeg_size}[content_type](body)
    if not height or not width:
        raise Refused(400, f"Expected an image, but its header says {height} x {width} pixels.")
    if height * width > _PIXELS:
        raise Refused(413, f"Expected at most {_PIXELS} pixels, but the image's header says {height} x {width}.")
    if content_type == "image/png":
        _check_png(body, height, width)
    if content_type == "image/jpeg" and body.count(b"\xff\xda") > _SCANS:
        raise Refused(400, f"Expected a JPEG of at most {_SCANS} scans.")


def png_size(body):
    """`(height, width)` in the header of a PNG, which is its first chunk."""
    if body[12:16] != b"IHDR" or _number(body, 8, 4) != 13:
        raise Refused(400, "Expected a whole PNG, but its header is missing.")
    return _number(body, 20, 4), _number(body, 16, 4)


def _check_png(body, height, width):
    """Refuses animations, and pixels that unpack to more than the header says, which decoders read to their end."""
    # At most 8 bytes for a pixel, and one for a row, of which the seven passes of an interlaced image have more.
    most, packer = 2 * height * (8 * width + 1) + 7 * (height + width), zlib.decompressobj()
    place, kind, unpacked = 8, b"", None
    # Before the pixels, what is missing is the header's; behind them, it is for the decoder to say.
    while unpacked is None or (place < len(body) and kind != b"IEND"):
        length, kind = _number(body, place, 4), body[place + 4 : place + 8]
        if kind == b"acTL" and unpacked is None:
            raise Refused(400, "Expected one still image, but the PNG is animated.")
        if kind == b"IDAT":
            unpacked = (unpacked or 0) + _unpacked(packer, body[place + 8 : place + 8 + length], most)
        if unpacked is not None and unpacked > most:
            raise Refused(400, "Expected the pixels that the PNG's header says, but there are more.")
        place += 12 + length


def _unpacked(packer, packed, most):
    """How many bytes some packed ones make, counted not far beyond `most`; those that are damaged make none."""
    count = 0
    try:
        while packed and count <= most and not packer.eof:
            count += len(packer.decompress(packed, _PIECE))
            packed = packer.unconsumed_tail
    except zlib.error:
        # The decoder will say so.
        return 0
    return count


# Another marker before the frame's header is no JPEG, or one that other readers read in another way.
_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xdb-\xfe])")
_NO_FRAME = b"\xc4\xc8\xcc"


def jpeg_size(body):
    """`(height, width)` in the frame header of a JPEG, which is its first segment of the kinds SOF0 to SOF15."""
    place = 2
    while segment := _SEGMENT.match(body, place):
        length = _number(body, segment.end(), 2)
        if b"\xc0" <= segment[1] <= b"\xcf" and segment[1] not in _NO_FRAME:
            return _number(body, segment.end() + 3, 2), _number(body, segment.end() + 5, 2)
        place = segment.end() + max(length, 2)
    raise Refused(400, "Expected a whole JPEG, but its frame header is missing.")


def _number(body, start, count):
    """The number in some bytes, which have to be there."""
    if start + count > len(body):
        raise Refused(400, "Expected a whole PNG or JPEG, but it ends within its header.")
    return int.from_bytes(body[start : start + count], "big")


# The SavedModel ----------------------------------------------------------------------------------------------------------
class Explainer:
    """An exported SavedModel as a function from an encoded image to what is answered.

    Args:
        folder: what `analyzer.export` wrote.

    Raises:
        Unsuitable: there is no such SavedModel.
    """

    def __init__(self, folder):
        versions = sorted(path.parent.name for path in pathlib.Path(folder).glob("*/saved_model.pb"))
        if versions:
            raise Unsuitable(f"{str(folder)!r} is a folder of SavedModels; name one of them: {', '.join(versions)}.")
        try:
            # Its variables live as long as it does.
            self._loaded = tf.saved_model.load(str(folder))
            self.method = method_of(folder)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, tf.errors.OpError) as error:
            raise Unsuitable(f"{str(folder)!r} cannot be loaded as a SavedModel: {error}") from error
        if "serve" not in self._loaded.signatures:
            names = ", ".join(self._loaded.signatures) or "none"
            raise Unsuitable(f"Expected a signature called serve, as analyzer.export writes it; there is: {names}.")
        self._serve = self._loaded.signatures["serve"]
        check_signature(self._serve)
        self.height, self.width, self.channels = self._serve.structured_input_signature[1]["x"].shape[1:]
        self._outputs = self._serve.structured_outputs["predictions"].shape[1]
        self._takes = set(self._serve.structured_input_signature[1]) - {"x"}
        self._turns = threading.Semaphore(_AT_ONCE)

    def arguments(self, query):
        """What the query of a request says besides the image, name -> tensor.

        Raises:
            Refused: it says something else.
        """
        try:
            pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
        except ValueError:
            pairs = [("", "")]
        given, takes = dict(pairs), " and ".join(sorted(self._takes)) or "nothing"
        if set(given) - self._takes or len(given) < len(pairs):
            raise Refused(400, f"This explainer takes {takes} in the query, each once, as in ?NAME=NUMBER.")
        if not all(re.fullmatch("[0-9]{1,18}", text) for text in given.values()):
            raise Refused(400, "Expected whole numbers of at least 0 in the query.")
        numbers = {**dict.fromkeys(self._takes - {"target"}, 0), **{name: int(text) for name, text in given.items()}}
        if "target" in self._takes and not numbers.get("target", self._outputs) < self._outputs:
            raise Refused(400, f"Expected ?target=K with the output to explain, from 0 to {self._outputs - 1}.")
        return {name: _ARGUMENTS[name](number) for name, number in numbers.items()}

    def __call__(self, body, content_type, **arguments):
        """What is answered for an image that passed `check_image`, and what `arguments` gave."""
        with self._turns:
            results = self._explained(self._pixels(body, content_type), arguments)
            heatmap = tf.io.encode_png(results["picture"][0]).numpy()
        target, predictions = int(results["target"][0]), results["predictions"][0].numpy().tolist()
        return {
            "target": target,
            "score": predictions[target],
            "predictions": predictions,
            "heatmap": base64.b64encode(heatmap).decode(),
        }

    def _explained(self, pixels, arguments):
        try:
            return self._serve(x=pixels, **arguments)
        except tf.errors.InvalidArgumentError as error:
            if self.height and self.width:
                raise
            size = " x ".join(map(str, pixels.shape[1:3]))
            raise Refused(400, f"Expected an image of a size that the model takes; it fails on {size} pixels.") from error

    def _pixels(self, body, content_type):
        """The image as the model takes it: uint8 (1, height, width, channels)."""
        try:
            image = _DECODERS[content_type](body, channels=self.channels)
        except tf.errors.InvalidArgumentError as error:
            raise Refused(
                400, f"Expected a whole {content_type} in grey or RGB, but this one is damaged or other."
            ) from error
        size = self.height or image.shape[0], self.width or image.shape[1]
        resized = tf.image.resize(image[None], size, "bilinear", antialias=True)
        return tf.saturate_cast(tf.round(tf.cast(resized, tf.float32)), tf.uint8)


def method_of(folder):
    """The method's name in the description of an exported analyzer."""
    path = pathlib.Path(folder) / "assets.extra" / "description.json"
    return json.loads(path.read_text())["method"] if path.exists() else "SavedModel"


def check_signature(function):
    """Raises `Unsuitable` where a signature does not make pictures of explanations from uint8 images."""
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    if "x" not in inputs or set(inputs) - {"x", *_ARGUMENTS}:
        raise Unsuitable(f"Expected serve to take one image, x, but it takes {', '.join(inputs)}.")
    _check_tensor("x", inputs["x"], 4, (tf.uint8,))
    if inputs["x"].shape[3] not in (1, 3):
        raise Unsuitable(f"Expected x to have 1 or 3 channels, but its shape is {inputs['x'].shape}.")
    wanted = {"target": (1, (tf.int32,)), "predictions": (2, (tf.float32, tf.float64)), "picture": (4, (tf.uint8,))}
    for name, (rank, dtypes) in wanted.items():
        if name not in outputs:
            raise Unsuitable(f"Expected serve to give {name}, but it gives {', '.join(outputs)}. {_ADVICE}")
        _check_tensor(name, outputs[name], rank, dtypes)


def _check_tensor(name, tensor, rank, dtypes):
    """Raises `Unsuitable` for another rank or dtype, or for batches that one image is none of."""
    shape = tensor.shape
    if tensor.dtype not in dtypes or shape.rank != rank or shape[0] not in (None, 1):
        found = f"{tensor.dtype.name} of shape {shape}"
        raise Unsuitable(
            f"Expected {name} to be {dtypes[0].name} of {rank} axes, the first for 1 image, but it is {found}. {_ADVICE}"
        )


# HTTP --------------------------------------------------------------------------------------------------------------------
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
        try:
            return super().parse_request()
        finally:
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
            body, content_type = self._body()
            check_image(body, content_type)
            return explainer(body, content_type, **arguments)
        if path == "/health":
            return {"status": "ok"}
        size = {"height": explainer.height, "width": explainer.width, "channels": explainer.channels}
        return {"method": explainer.method, "input": size, "limit": self.server.limit}

    def _path(self):
        return self.path.partition("?")[0]

    def _body(self):
        """The request's body, and its type."""
        # Without a header, it is text/plain.
        content_type = self.headers.get_content_type()
        if content_type not in _DECODERS:
            raise Refused(415, f"Expected Content-Type {' or '.join(_DECODERS)}, but it is {content_type}.")
        length = self._length()
        if length > self.server.limit:
            raise Refused(413, f"Expected at most {self.server.limit} bytes, but Content-Length is {length}.")
        body = self._read(length)
        self.unread = False
        if not body:
            raise Refused(400, "Expected a PNG or JPEG as the body, but it is empty.")
        return body, content_type

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
    """

    # Threads that still run TensorFlow when Python ends may crash it; instead they are waited for.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address, explainer, limit):
        self.explainer, self.limit, self._open = explainer, limit, set()
        super().__init__(address, Handler)

    def process_request(self, request, client_address):
        """Notes that a connection is open."""
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


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501, help="0: a free one")
    parser.add_argument("--limit", type=int, default=10, metavar="MIB", help="of a request's body; default: 10")
    options = parser.parse_args(arguments)
    _when_told_to_stop(sys.exit)
    try:
        server = Server((options.host, options.port), Explainer(options.folder), options.limit * 2**20)
    except Unsuitable as error:
        parser.error(str(error))
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host}, port {options.port}: {error}")
    # An exception could come while a connection is handed to its thread; and shutdown waits for this thread.
    _when_told_to_stop(lambda: threading.Thread(target=server.shutdown).start())
    with server:
        print(f"Serving {server.explainer.method} on http://{options.host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
