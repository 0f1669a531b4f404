"""For the tests of the example of a service: images, good and bad, and a running service to ask."""

import contextlib
import http.client
import io
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib

import numpy as np
from loading import SCRIPTS
from PIL import Image

from innvest_lite.data import load_digits

SCRIPT = SCRIPTS / "examples" / "service"
BLOCKED = f"""
import runpy, sys
sys.modules["innvest_lite"] = sys.modules["keras"] = sys.modules["PIL"] = None
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
PATIENCE = 120
MIB = 2**20
PNG, JPEG = "image/png", "image/jpeg"


# Images --------------------------------------------------------------------------------------------------------------
def encoded(pixels, file_format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def digits(count):
    return np.rint(load_digits()[0][:count, ..., 0] * 255).astype("uint8")


def noise(*shape):
    return np.random.default_rng(7).integers(0, 256, shape, "uint8")


def chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(width, height, pixels):
    """A grey PNG with any bytes as its compressed pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bomb(side=10_000):
    """A whole, valid PNG of 100 megapixels."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side))
    return png(side, side, rows + packer.flush())


def jpeg(width, height, scans=1):
    """The digit's JPEG with another size in its frame header, and a comment in which scans seem to begin."""
    body = encoded(digits(1)[0], "JPEG")
    place = body.index(b"\xff\xc0") + 5
    comment = b"\xff\xda" * (scans - 1)
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return body[:2] + segment + body[2:place] + size + body[place + 4 :]


def animated():
    frames = [Image.fromarray(image) for image in digits(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


# The service ---------------------------------------------------------------------------------------------------------
class Service:
    """The script in a process of its own, and what a client asks it."""

    def __init__(self, command, log):
        with open(log, "w") as errors:
            options = {"stdout": subprocess.PIPE, "stderr": errors, "text": True, "cwd": log.parent}
            self.process = subprocess.Popen([sys.executable, *map(str, command), "--port", "0"], **options)
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        self.line = self.process.stdout.readline()
        watch.cancel()
        assert self.line, f"it did not start: {log.read_text()[-3000:]}"
        self.port = int(self.line.rpartition(":")[2])

    def connect(self):
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE))

    def explain(self, body, content_type=PNG):
        with self.connect() as connection:
            return explained(connection, body, content_type)[1:]

    def peak(self):
        """The most memory that the process ever had, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.stdout.close()


def asked(connection, *request):
    """The response, its status and its JSON."""
    connection.request(*request)
    response = connection.getresponse()
    content = response.read()
    assert response.headers["Content-Type"] == "application/json"
    return response, response.status, json.loads(content)


def explained(connection, body, content_type=PNG):
    return asked(connection, "POST", "/explain", body, {"Content-Type": content_type})


def raw(port, data):
    """The response to some bytes, and its JSON; the connection is closed then."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        response = http.client.HTTPResponse(connection)
        response.begin()
        answer = json.loads(response.read())
        assert connection.recv(1) == b""
    return response, answer
