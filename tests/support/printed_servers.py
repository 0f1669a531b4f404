"""The servers that the documentation starts and asks, for the test that runs its lines.

`Servers` runs the lines in order: the example of a service in a process of its own, `curl` as it is installed (else a
stand-in that sends the same), on free ports instead of those that are printed. There is no TensorFlow Serving to run: where
its container would start, a stand-in reads the requests as its REST API documents them, against the SavedModel's signature.
"""

import argparse
import contextlib
import http.server
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import urllib.request

import tensorflow as tf
from serving import PATIENCE, Service

_CURL = argparse.ArgumentParser("curl")
_CURL.add_argument("-d", "--data-binary", dest="body")
_CURL.add_argument("-H", dest="headers", action="append", default=[])
_CURL.add_argument("url")


class Servers:
    """What a page's lines have started.

    Args:
        log: a file for what the service says on stderr.
    """

    def __init__(self, log):
        self._log, self._ports, self._stack = log, {}, contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def run(self, line, folder):
        """Runs a line in a folder; what `curl` got, else None."""
        program, *words = shlex.split(line.replace("$PWD", str(folder)))
        {"docker": self._container, "python": self._service}.get(program, lambda *_: None)(words, folder)
        return self._curl(words, folder) if program == "curl" else None

    def _service(self, words, folder):
        script, served, option, printed = words
        assert option == "--port"
        service = Service([folder / script, folder / served], self._log)
        self._stack.callback(service.stop)
        self._ports[printed] = service.port

    def _container(self, words, folder):
        assert words[0] == "run" and words[-1] == "tensorflow/serving"
        options = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
        printed, inside = options["-p"].split(":")
        source, target = options["-v"].split(":")
        # Where it listens for REST, and where it looks for a model, by its documentation.
        assert inside == "8501" and options["-e"] == f"MODEL_NAME={pathlib.PurePath(target).name}"
        assert target == f"/models/{pathlib.PurePath(target).name}"
        server = http.server.HTTPServer(("127.0.0.1", 0), _rest(pathlib.PurePath(target).name, pathlib.Path(source)))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self._stack.callback(lambda: (server.shutdown(), thread.join(), server.server_close()))
        self._ports[printed] = server.server_port

    def _curl(self, words, folder):
        printed = re.search(r"localhost:(\d+)/", " ".join(words))[1]
        words = [word.replace(f"localhost:{printed}/", f"127.0.0.1:{self._ports[printed]}/") for word in words]
        if shutil.which("curl") is None:
            return _sent(_CURL.parse_args(words), folder)
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


def _sent(options, folder):
    """What `curl` would get."""
    body = (folder / options.body[1:]).read_bytes() if options.body.startswith("@") else options.body.encode()
    headers = dict(header.split(": ", 1) for header in options.headers)
    request = urllib.request.Request(f"http://{options.url}", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


def _rest(name, folder):
    """A handler of TensorFlow Serving's columnar requests for a model, of which the highest version is served."""
    version = max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    loaded = tf.saved_model.load(str(version))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                assert self.path == f"/v1/models/{name}:predict", self.path
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = 200, {"outputs": answered(loaded, asked)}
            except (AssertionError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
                status, answer = 400, {"error": repr(error)}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


def answered(loaded, asked):
    """What a signature gives for a request, name -> lists; an error where inputs are missing, or of another shape."""
    assert set(asked) <= {"signature_name", "inputs"}, set(asked)
    signature = loaded.signatures[asked.get("signature_name", "serving_default")]
    specs = signature.structured_input_signature[1]
    assert set(asked["inputs"]) == set(specs), (set(asked["inputs"]), set(specs))
    tensors = {key: tf.constant(value, specs[key].dtype) for key, value in asked["inputs"].items()}
    for key, tensor in tensors.items():
        assert specs[key].shape.is_compatible_with(tensor.shape), (key, tensor.shape, specs[key].shape)
    return {key: tensor.numpy().tolist() for key, tensor in signature(**tensors).items()}
