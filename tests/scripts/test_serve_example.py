"""The example of a service: its answers are the SavedModel's, whatever comes it says what is wrong and lives on."""

import base64
import concurrent.futures
import contextlib
import functools
import http.client
import io
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import small_model
from loading import load_script
from PIL import Image
from serving import (
    BLOCKED,
    JPEG,
    MIB,
    PATIENCE,
    PNG,
    Service,
    animated,
    asked,
    bomb,
    digits,
    encoded,
    explained,
    jpeg,
    noise,
    png,
    raw,
)

import innvest_lite
from innvest_lite.data import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "served"
    innvest_lite.Gradient(load_model()).export(folder, preprocess="unit", render="heatmap")
    return folder


@pytest.fixture(scope="module")
def service(folder, tmp_path_factory):
    # Where there is neither this package, nor Keras, nor Pillow.
    service = Service(["-c", BLOCKED, folder], tmp_path_factory.mktemp("service") / "log")
    yield service
    assert service.stop() == 0


@pytest.fixture(scope="module")
def script():
    return load_script("examples/service/serve")


@pytest.fixture(scope="module")
def saved(folder):
    """A function of uint8 images (height, width): what the SavedModel says."""
    loaded, said = tf.saved_model.load(str(folder)), {}

    def explain(image):
        # Many tests ask about the same digit.
        if image.tobytes() not in said:
            results = loaded.signatures["serve"](x=image[None, ..., None])
            said[image.tobytes()] = {name: tensor.numpy()[0] for name, tensor in results.items()}
        return said[image.tobytes()]

    return explain


def assert_answer(answer, expected, tolerance=1e-5, levels=1):
    assert set(answer) == {"target", "score", "predictions", "heatmap"}
    assert answer["target"] == expected["target"]
    np.testing.assert_allclose(answer["score"], expected["predictions"].max(), atol=tolerance)
    np.testing.assert_allclose(answer["predictions"], expected["predictions"], atol=tolerance)
    picture = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    np.testing.assert_allclose(np.asarray(picture, int), expected["picture"], atol=levels)


# Answers -------------------------------------------------------------------------------------------------------------
def test_answers_are_those_of_the_saved_model(service, saved):
    images = digits(24)
    bodies = [(encoded(image), PNG) if index % 2 else (encoded(image, "JPEG"), JPEG) for index, image in enumerate(images)]

    def client(number):
        with service.connect() as connection:
            return [explained(connection, *image)[1:] for image in bodies[number::8]]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client, range(8)))
    for index, (image, (body, content_type)) in enumerate(zip(images, bodies, strict=True)):
        status, answer = answers[index % 8][index // 8]
        assert status == 200
        seen = image if content_type == PNG else tf.io.decode_jpeg(body, channels=1).numpy()[..., 0]
        assert_answer(answer, saved(seen))
    targets = {answer["target"] for some in answers for _, answer in some}
    assert targets == set(range(10))


@pytest.mark.parametrize("shape", [(200, 120), (200, 120, 3), (9, 15, 4)])
def test_images_come_in_any_size_and_colour(service, saved, shape):
    image = noise(*shape)
    status, answer = service.explain(encoded(image))
    grey = Image.fromarray(image[..., :3]).convert("L") if len(shape) == 3 else Image.fromarray(image)
    assert status == 200
    assert_answer(answer, saved(np.asarray(grey.resize((28, 28), Image.Resampling.BILINEAR))), 0.03, 255)


def test_what_it_says_of_itself(service):
    assert service.line == f"Serving Gradient on http://127.0.0.1:{service.port}\n"
    with service.connect() as connection:
        size = {"height": 28, "width": 28, "channels": 1}
        description = {"method": "Gradient", "input": size, "limit": 10 * MIB}
        assert asked(connection, "GET", "/")[1:] == (200, description)
        assert asked(connection, "GET", "/health?from=probe")[1:] == (200, {"status": "ok"})
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(plain("HEAD / HTTP/1.1", "Connection: close"))
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n"), "no body"


# What is wrong is said -----------------------------------------------------------------------------------------------
@functools.cache
def wrong():
    """Name -> status, a part of the message, body, Content-Type."""
    good, photo = encoded(digits(1)[0]), encoded(digits(1)[0], "JPEG")
    garbage = noise(5000).tobytes()
    return {
        "empty": (400, "but it is empty", b"", PNG),
        "text": (400, "Expected a PNG or JPEG", b"Dear service,\n" * 20, PNG),
        "text as JPEG": (400, "Expected a PNG or JPEG", b"Dear service,\n" * 20, JPEG),
        "PNG as JPEG": (400, "the type that Content-Type says, image/jpeg", good, JPEG),
        "JPEG as PNG": (400, "the type that Content-Type says, image/png", photo, PNG),
        "GIF as PNG": (400, "Expected a PNG or JPEG", encoded(digits(1)[0], "GIF"), PNG),
        "GIF": (415, "image/png or image/jpeg, but it is image/gif", encoded(digits(1)[0], "GIF"), "image/gif"),
        "no sense": (415, "but it is text/plain", good, "png"),
        "garbage behind PNG's magic": (400, "header is missing", good[:8] + garbage, PNG),
        "garbage behind PNG's header": (400, "ends within its header", good[:33] + garbage, PNG),
        "garbage as PNG's pixels": (400, "damaged", png(28, 28, garbage), PNG),
        "garbage behind JPEG's magic": (400, "frame header is missing", photo[:3] + garbage, JPEG),
        "garbage behind JPEG's header": (400, "damaged", photo[: photo.index(b"\xff\xc0") + 19] + garbage, JPEG),
        "JPEG of segments without length": (400, "frame header is missing", b"\xff\xd8\xff\xe0\0\0" * 99, JPEG),
        "more pixels than the header says": (400, "there are more", png(28, 28, zlib.compress(bytes(50_000_000))), PNG),
        "animation": (400, "the PNG is animated", animated(), PNG),
        "many scans": (400, "at most 100 scans", jpeg(28, 28, 101), JPEG),
        "PNG without width": (400, "28 x 0 pixels", png(0, 28, zlib.compress(bytes(28))), PNG),
        "JPEG without height": (400, "0 x 28 pixels", jpeg(28, 0), JPEG),
        "100 megapixels": (413, "at most 16000000 pixels, but the image's header says 10000 x 10000", bomb, PNG),
        "JPEG that claims as much": (413, "header says 65500 x 65500", jpeg(65500, 65500), JPEG),
        "PNG header that claims as much": (413, "header says 4001 x 4000", png(4000, 4001, b"")[:33], PNG),
        **{f"PNG up to {end}": (400, "PNG|png", good[:end], PNG) for end in (3, 8, 20, 33, 40, 300, len(good) - 1)},
        **{f"JPEG up to {end}": (400, "JPEG|jpeg", photo[:end], JPEG) for end in (3, 20, 170, 400, len(photo) - 1)},
    }


@pytest.mark.parametrize("name", wrong())
def test_bad_images(service, saved, name):
    expected, message, body, content_type = wrong()[name]
    body = body() if callable(body) else body
    before = service.peak()
    with service.connect() as connection:
        response, status, answer = explained(connection, body, content_type)
        assert (status, list(answer)) == (expected, ["error"])
        assert re.search(message, answer["error"]), answer["error"]
        assert (response.headers["Connection"] == "close") == (status == 415), "only what was not read closes"
        image = digits(2)[1]
        status, answer = explained(connection, encoded(image))[1:]
    assert status == 200
    assert_answer(answer, saved(image))
    assert service.peak() - before < 50 * MIB, "the 100 megapixels would be 95 MiB in grey"
    assert service.process.poll() is None


def plain(line, *headers, body=b""):
    return "\r\n".join([line, *headers, "", ""]).encode() + body


def post(*headers, body=b""):
    return plain("POST /explain HTTP/1.1", f"Content-Type: {PNG}", *headers, body=body)


_REQUESTS = {
    "no Content-Length": (411, "Expected Content-Length", post(body=b"x")),
    "chunked": (411, "in one piece", post("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "a byte too much": (413, "at most 10485760 bytes, but Content-Length is 10485761", post("Content-Length: 10485761")),
    "too much, and sent": (413, "at most 10485760 bytes", lambda: post("Content-Length: 60000000", body=bytes(60_000_000))),
    "long Content-Length": (400, "Expected one number", post(f"Content-Length: {'9' * 5000}")),
    "negative Content-Length": (400, "Expected one number", post("Content-Length: -1")),
    "two Content-Lengths": (400, "Expected one number", post("Content-Length: 1", "Content-Length: 2")),
    "a body that is not wanted": (200, "ok", plain("GET /health HTTP/1.1", "Content-Length: 5", body=b"hello")),
    "no HTTP": (400, "Bad request version", plain("GET / HTTP/one")),
    "many headers": (431, "many headers", plain("GET / HTTP/1.1", *["A: b"] * 200)),
    "long headers": (431, "Line too long", plain("GET / HTTP/1.1", *["A: " + "b" * 9000] * 9)),
    "unknown method": (501, "Unsupported method", plain("BREW /explain HTTP/1.1")),
    "GET": (405, "Expected POST /explain", plain("GET /explain HTTP/1.1", "Connection: close")),
    "PUT": (405, "Expected POST /explain", plain("PUT /explain HTTP/1.1", "Content-Length: 1", body=b"x")),
    "DELETE": (405, "Expected GET /health", plain("DELETE /health HTTP/1.1")),
    "unknown path": (404, "Expected POST /explain", plain("POST /explain/ HTTP/1.1", "Content-Length: 1", body=b"x")),
}


@pytest.mark.parametrize("name", _REQUESTS)
def test_bad_requests(service, name):
    expected, message, request_ = _REQUESTS[name]
    before, begin = service.peak(), time.monotonic()
    response, answer = raw(service.port, request_() if callable(request_) else request_)
    assert response.status == expected and message in answer.get("error", answer.get("status"))
    assert response.headers["Connection"] == "close"
    assert time.monotonic() - begin < 8, "who waits for the end gets it at once, not after 10 s"
    assert response.headers["Allow"] == (message.split()[1] if expected == 405 else None)
    assert service.explain(encoded(digits(1)[0]))[0] == 200
    assert service.peak() - before < 30 * MIB


def test_a_connection_is_kept(service):
    with service.connect() as connection:
        asked(connection, "GET", "/health")
        kept = connection.sock
        for body, expected in ((b"text", 400), (encoded(digits(1)[0]), 200)):
            assert explained(connection, body)[1] == expected
            assert connection.sock is kept


def test_bytes_of_any_kind_are_judged(script):
    generator = np.random.default_rng(5)
    good = {PNG: encoded(digits(1)[0]), JPEG: encoded(digits(1)[0], "JPEG")}
    refused = 0
    for content_type, body in good.items():
        script.check_image(body, content_type)
        for _ in range(1500):
            changed = bytearray(body[: generator.integers(1, len(body) + 1)])
            for place in generator.integers(0, min(len(changed), 200), 3):
                changed[place] = generator.integers(256)
            try:
                script.check_image(bytes(changed), content_type)
            except script.Refused as error:
                assert error.status in (400, 413)
                refused += 1
    assert 500 < refused < 2900


# A server in this process, whose explainer is ours ---------------------------------------------------------------------
@contextlib.contextmanager
def serving(script, explainer, limits=(), **attributes):
    if not isinstance(explainer, script.Explainer):
        explainer.method, explainer.height, explainer.width, explainer.channels = "Ours", 28, 28, 1
        explainer.arguments = lambda query: {}
    server = script.Server(("127.0.0.1", 0), explainer, MIB, *limits)
    server.RequestHandlerClass = type("Handler", (script.Handler,), attributes)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("failure", ["an error", "not a number"])
def test_what_fails_inside_is_500(script, failure, capfd):
    def explain(body, content_type):
        if body != encoded(digits(1)[0]):
            return {"target": 3}
        if failure == "an error":
            raise RuntimeError("secret")
        return {"score": float("nan")}

    with serving(script, explain) as server:
        response, answer = raw(server.server_port, _request(0, "Connection: close"))
        assert response.status == 500
        assert answer == {"error": "The image could not be explained; the service's log says why."}
        assert raw(server.server_port, _request(1, "Connection: close"))[1] == {"target": 3}
    assert ("secret" if failure == "an error" else "JSON compliant") in capfd.readouterr().err


def _request(index, *headers):
    body = encoded(digits(index + 1)[index])
    return post(f"Content-Length: {len(body)}", *headers, body=body)


@pytest.mark.parametrize("sent", [0, 20])
def test_a_slow_client_is_not_waited_for(script, sent):
    assert script.Handler.timeout == 10
    with serving(script, lambda *_: {}, timeout=0.3) as server:
        body = encoded(digits(1)[0])
        response, answer = raw(server.server_port, post("Content-Length: 900", body=body[:sent]))
    assert response.status == 408
    assert answer == {"error": f"Expected 900 bytes as Content-Length says, but got {sent} in time."}


@pytest.mark.slow
def test_nor_one_whose_header_drips(script, monkeypatch):
    monkeypatch.setattr(script, "_HEADER", 0.5)
    with serving(script, lambda *_: {}) as server, socket.create_connection(server.server_address) as connection:
        connection.sendall(b"POST /explain HTTP/1.1\r\n")
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - start < 9:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - start < 9, "idle connections are closed after 10"


@pytest.mark.slow
def test_neither_is_one_that_drips(script, monkeypatch):
    monkeypatch.setattr(script, "_BODY", 0.5)
    with serving(script, lambda *_: {}) as server, socket.create_connection(server.server_address) as connection:
        connection.sendall(post("Content-Length: 900"))
        connection.settimeout(0.05)
        begin, answer = time.monotonic(), b""
        while not answer and time.monotonic() < begin + 20:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
    assert b" 408 " in answer


def test_a_client_that_leaves_is_told_nothing(script, capfd):
    with serving(script, lambda *_: {}) as server:
        with socket.create_connection(server.server_address) as connection:
            connection.sendall(post("Content-Length: 900", body=b"x"))
            connection.shutdown(socket.SHUT_WR)
            assert b"Expected 900 bytes as Content-Length says, but got 1." in connection.makefile("rb").read()
        with socket.create_connection(server.server_address) as connection:
            # Closed by a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(post("Content-Length: 900", body=b"x"))
        assert raw(server.server_port, _request(0, "Connection: close"))[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_closing_waits_for_answers_and_for_nobody_else(script):
    begun = threading.Event()

    def explain(body, content_type):
        begun.set()
        time.sleep(0.5)
        return {"target": 3}

    with contextlib.ExitStack() as stack:
        with serving(script, explain) as server:
            idle, asking = (stack.enter_context(socket.create_connection(server.server_address)) for _ in range(2))
            asking.sendall(_request(0))
            assert begun.wait(PATIENCE)
            begin = time.monotonic()
        assert 0.2 < time.monotonic() - begin < 8, "the idle one would have 10 s"
        assert b'{"target": 3}' in asking.recv(1000)
        assert idle.recv(1) == b""


@pytest.mark.slow
def test_few_images_are_explained_at_a_time(script, folder, monkeypatch):
    explainer, running, most = script.Explainer(folder), [], []

    def slowly(**inputs):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return found(**inputs)

    found = explainer._serve
    monkeypatch.setattr(explainer, "_serve", slowly)
    body = encoded(digits(1)[0])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: explainer(body, PNG), range(16)))
    assert len(answers) == 16 and max(most) == 2


# Starting and stopping -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_it_needs_neither_this_package_nor_pillow(folder, saved, tmp_path):
    service = Service(["-c", BLOCKED, folder, "--limit", "1"], tmp_path / "log")
    with service.connect() as connection:
        image = digits(3)[2]
        assert_answer(explained(connection, encoded(image))[2], saved(image))
        assert explained(connection, bytes(MIB + 1))[1] == 413
        asked(connection, "GET", "/health")
        begin = time.monotonic()
        assert service.stop(signal.SIGINT) == 0
        assert time.monotonic() - begin < 8, "an open connection is not waited for"
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_may_be_stopped_while_it_loads(script, monkeypatch, number):
    before = {known: signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(number, lambda *_: None)
    monkeypatch.setattr(script, "Explainer", lambda *_: signal.raise_signal(number) or pytest.fail("it goes on"))
    try:
        with pytest.raises(SystemExit) as stop:
            script.main(["folder"])
        assert not stop.value.code
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


@pytest.mark.slow
def test_a_folder_that_cannot_be_served_ends_it(tmp_path):
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stdout == ""
    assert re.search("error: .*missing' cannot be loaded as a SavedModel", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preprocess": "unit"}, "Expected serve to give picture, but it gives .*render="),
        ({"preprocess": "unit", "render": "heatmap", "predictions": False}, "Expected serve to give predictions"),
        ({"render": "heatmap"}, "Expected x to be uint8 .*but it is float32 of shape .*preprocess="),
        pytest.param(
            {"preprocess": "unit", "render": "heatmap", "batch": 4},
            "the first for 1 image, .* shape .4, 28, 28, 1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_exports_are_refused(script, tmp_path, options, message):
    # Of the least model: what is refused are the signatures.
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    innvest_lite.Gradient(model).export(tmp_path / "served", **options)
    with pytest.raises(script.Unsuitable, match=message):
        script.Explainer(tmp_path / "served")


@pytest.mark.slow
def test_the_query_says_what_is_explained(script, tmp_path):
    body = encoded(digits(1)[0])
    innvest_lite.Gradient(small_model()).export(tmp_path / "asked", preprocess="unit", render="heatmap", target="input")
    loaded = tf.saved_model.load(str(tmp_path / "asked"))
    with serving(script, script.Explainer(tmp_path / "asked")) as server:

        def connect():
            return contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE))

        with connect() as connection:
            for target in (3, 9):
                headers = {"Content-Type": PNG}
                answer = asked(connection, "POST", f"/explain?target={target}", body, headers)[2]
                expected = loaded.serve(x=digits(1)[..., None], target=[target])
                assert (answer["target"], answer["score"]) == (target, answer["predictions"][target])
                picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["heatmap"]))), int)
                np.testing.assert_allclose(picture, expected["picture"][0], atol=1)
            answer = asked(connection, "POST", "/explain", body, headers)[2]
            assert answer["target"] == small_model().predict(digits(1)[..., None] / 255, verbose=0).argmax()
            assert answer["score"] == max(answer["predictions"])
        for query in (
            "?target=10",
            "?target=-1",
            "?target=",
            "?target=1&target=1",
            "?target=1&seed=1",
            "?target",
            "?a=1",
        ):
            with connect() as connection:
                _, status, answer = asked(connection, "POST", f"/explain{query}", body, {"Content-Type": PNG})
                assert status == 400 and re.search("target|whole numbers", answer["error"]), query


@pytest.mark.slow
@pytest.mark.parametrize("target", ["argmax", "input"])
@pytest.mark.parametrize(("bias", "predicted"), [(-30.0, 0), (30.0, 1)])
def test_one_sigmoid_unit_is_two_classes(script, tmp_path, target, bias, predicted):
    unit = keras.layers.Dense(1, activation="sigmoid", bias_initializer=keras.initializers.Constant(bias))
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), unit])
    innvest_lite.Gradient(model).export(tmp_path / "two", preprocess="unit", render="heatmap", target=target)
    explainer = script.Explainer(tmp_path / "two")
    answer = explainer(encoded(digits(1)[0]), PNG)
    assert answer["target"] == predicted and answer["score"] > 0.99 and len(answer["predictions"]) == 1
    if target == "input":
        other = explainer(encoded(digits(1)[0]), PNG, **explainer.arguments(f"target={1 - predicted}"))
        assert other["target"] == 1 - predicted and other["score"] < 0.01
        assert other["heatmap"] != answer["heatmap"], "the gradient of -z"
        with pytest.raises(script.Refused, match="from 0 to 1"):
            explainer.arguments("target=2")


@pytest.mark.slow
def test_an_explainer_that_cannot_predict_is_refused(script, tmp_path):
    module = tf.Module()
    specs = [tf.TensorSpec((None, 4, 4, 1), "uint8", name="x"), tf.TensorSpec((None,), "int32", name="target")]
    picture = tf.zeros((1, 4, 4, 3), "uint8")
    serve = lambda x, target: {"predictions": tf.zeros((1, 2)), "target": target, "picture": picture}  # noqa: E731
    module.serve = tf.function(serve, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"serve": module.serve})
    with pytest.raises(script.Unsuitable, match="Expected a signature called predict"):
        script.Explainer(tmp_path / "other")


@pytest.mark.slow
def test_a_seed_is_0_or_what_the_query_says(script, tmp_path):
    innvest_lite.SmoothGrad(small_model(), augment_by_n=2).export(tmp_path / "1", preprocess="unit", render="heatmap")
    explainer = script.Explainer(tmp_path / "1")
    answers = [explainer(encoded(digits(1)[0]), PNG, **explainer.arguments(query)) for query in ("", "seed=0", "seed=1")]
    assert answers[0] == answers[1] != answers[2]
    with pytest.raises(script.Unsuitable, match="is a folder of SavedModels; name one of them: 1"):
        script.Explainer(tmp_path)


def test_what_just_passes(script):
    """The most pixels, the scans of common encoders, tables and filling before a JPEG's frame."""
    script.check_image(png(4000, 4000, b""), PNG)
    script.check_image(encoded(digits(1)[0]) + b"\n", PNG)
    script.check_image(encoded(noise(9, 7, 4)), PNG)
    script.check_image(jpeg(28, 28, 100), JPEG)
    photo = encoded(digits(1)[0], "JPEG")
    table = b"\xff\xc4\x00\x08\x11\x22\x33\x44\x55\x66"
    jpeg_size = load_script("examples/service/still_image").jpeg_size
    assert jpeg_size(photo[:2] + table + photo[2:]) == (28, 28)
    assert jpeg_size(photo[:2] + b"\xff\xff" + photo[2:]) == (28, 28)


@pytest.mark.slow
def test_the_largest_body_is_read_and_connections_are_let_go(script):
    with serving(script, lambda *_: {}) as server:
        for length, status in ((MIB, 400), (MIB + 1, 413)):
            body = post(f"Content-Length: {length}", "Connection: close", body=bytes(length))
            response = raw(server.server_port, body)[0]
            assert response.status == status
        deadline = time.monotonic() + PATIENCE
        while server._open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not server._open


@pytest.mark.slow
def test_images_of_other_channels_are_refused(script, tmp_path):
    module = tf.Module()
    signature = [tf.TensorSpec((None, 4, 4, 2), "uint8", name="x")]
    module.serve = tf.function(lambda x: {"predictions": tf.zeros((1, 2))}, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"serve": module.serve})
    with pytest.raises(script.Unsuitable, match="1 or 3 channels, but its shape is .None, 4, 4, 2"):
        script.Explainer(tmp_path / "other")


def test_a_progressive_jpeg(service):
    status, answer = service.explain(encoded(digits(1)[0], "JPEG", progressive=True), JPEG)
    assert status == 200 and answer["score"] == max(answer["predictions"])


def test_images_of_another_size_are_resized_and_rounded(service, saved):
    image = noise(61, 50)
    resized = tf.image.resize(image[None, ..., None], (28, 28), "bilinear", antialias=True).numpy()
    status, answer = service.explain(encoded(image))
    assert status == 200
    assert_answer(answer, saved(np.rint(resized[0, ..., 0]).astype("uint8")), 1e-6)


def test_other_saved_models_are_refused(script, tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures={"apply": module.f})
    with pytest.raises(script.Unsuitable, match="Expected a signature called serve, .* there is: apply"):
        script.Explainer(tmp_path / "other")
    (tmp_path / "other" / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(script.Unsuitable, match="cannot be loaded as a SavedModel"):
        script.Explainer(tmp_path / "other")


@pytest.mark.slow
def test_a_model_of_any_size_and_in_colour(script, tmp_path):
    x = keras.Input((None, 20, 3))
    value = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model(x, keras.layers.Dense(5)(value))
    innvest_lite.Gradient(model).export(tmp_path / "served", preprocess="unit", render="heatmap", batch=1)
    explainer = script.Explainer(tmp_path / "served")
    assert (explainer.method, explainer.height, explainer.width, explainer.channels) == ("Gradient", None, 20, 3)
    image = noise(31, 20, 3)
    answer = explainer(encoded(image), PNG)
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serve"](x=image[None])
    assert_answer(answer, {name: tensor.numpy()[0] for name, tensor in served.items()})
    heatmap = base64.b64decode(explainer(encoded(noise(31, 50, 3)), PNG)["heatmap"])
    assert Image.open(io.BytesIO(heatmap)).size == (20, 31)
    with pytest.raises(script.Refused, match="of a size that the model takes; it fails on 2 x 20 pixels") as refused:
        explainer(encoded(noise(2, 20, 3)), PNG)
    assert refused.value.status == 400


# What all requests take together --------------------------------------------------------------------------------------
def test_bodies_wait_for_one_another_and_are_then_refused(script, monkeypatch):
    """Room for two bodies; the third waits, is refused where it takes too long, and comes in when there is room again."""
    monkeypatch.setattr(script, "_WAIT", 0.2)
    monkeypatch.setattr(script, "check_image", lambda body, content_type: None)
    inside, leave, sizes = threading.Semaphore(0), threading.Event(), []

    def explain(body, content_type):
        sizes.append(len(body))
        inside.release()
        assert leave.wait(PATIENCE)
        return {"size": len(body)}

    request = post(f"Content-Length: {MIB}", "Connection: close", body=bytes(MIB))
    with serving(script, explain, (2 * MIB + 100,)) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = [pool.submit(raw, server.server_port, request) for _ in range(2)]
        assert all(inside.acquire(timeout=PATIENCE) for _ in range(2))
        response, answer = raw(server.server_port, post(f"Content-Length: {MIB}"))
        assert (response.status, response.headers["Retry-After"]) == (503, "1") and "ask again later" in answer["error"]
        assert raw(server.server_port, _request(0, "Connection: close"))[0].status == 503, "not even a small one"
        assert raw(server.server_port, plain("GET /health HTTP/1.1", "Connection: close"))[0].status == 200
        leave.set()
        assert [future.result()[1] for future in held] == [{"size": MIB}] * 2
        assert raw(server.server_port, request)[1] == {"size": MIB}
        assert server.bodies._free == 2 * MIB + 100


def test_a_share_is_given_back_whatever_happens(script, capfd):
    def explain(body, content_type):
        raise RuntimeError

    with serving(script, explain) as server:
        for request, status in (
            (_request(0, "Connection: close"), 500),
            (post("Content-Length: 9", body=b"no image!"), 400),
        ):
            with socket.create_connection(server.server_address, timeout=PATIENCE) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                assert f" {status} ".encode() in connection.makefile("rb").read()
        assert server.bodies._free == 64 * MIB
    capfd.readouterr()


def test_one_connection_too_many_is_told_so(script):
    before = set(threading.enumerate())

    def answering():
        """The threads that answer; each also has a timer for a moment."""
        return [thread for thread in set(threading.enumerate()) - before if "process_request" in thread.name]

    with serving(script, lambda *_: {}, (64 * MIB, 3)) as server, contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(socket.create_connection(server.server_address)) for _ in range(3)]
        for connection in open_:
            connection.sendall(plain("GET /health HTTP/1.1"))
            assert b" 200 " in connection.recv(1000)
        assert len(answering()) == 3
        for _ in range(5):
            with socket.create_connection(server.server_address, timeout=PATIENCE) as connection:
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert response.status == 503 and b"too many connections" in response.read()
        assert len(answering()) == 3
        open_[0].close()
        deadline = time.monotonic() + PATIENCE
        while len(server._open) > 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert raw(server.server_port, plain("GET /health HTTP/1.1", "Connection: close"))[0].status == 200


def test_a_model_of_any_size_is_given_no_more_pixels_than_it_may_take(script, tmp_path):
    """Its memory grows with the pixels; of a model of one size, images of any size are resized."""
    x = keras.Input((None, 20, 1))
    value = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, activation="relu")(x))
    model = keras.Model(x, keras.layers.Dense(3)(value))
    innvest_lite.Gradient(model).export(tmp_path / "served", preprocess="unit", render="heatmap", batch=1)
    explainer = script.Explainer(tmp_path / "served", 31 * 20)
    given, found = [], explainer._serve
    explainer._serve = lambda x, **more: (given.append(x.shape[1] * x.shape[2]), found(x=x, **more))[1]
    assert explainer(encoded(noise(31, 500)), PNG)["target"] in range(3)
    with pytest.raises(script.Refused, match="at most 620 pixels for this model, but it would get 32 x 20") as refused:
        explainer(encoded(noise(32, 20)), PNG)
    assert refused.value.status == 413 and given == [620]


@pytest.mark.parametrize("option", ["--limit", "--together", "--connections", "--pixels"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "9" * 20])
def test_limits_are_numbers_above_0(script, option, value, capsys):
    before = {known: signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as stop:
            script.main(["folder", f"{option}={value}"])
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
    assert stop.value.code == 2 and f"{value!r} is not a whole number above 0" in capsys.readouterr().err
