"""A PJRT client of JAX, for StableHLO text. JAX is imported when it is needed."""

import time


def client():
    """JAX's default client: of the GPU where there is one, else of the CPU."""
    from jax.extend import backend

    return backend.get_backend()


class Program:
    """A StableHLO text, compiled for a client's first device.

    Args:
        client: as `client` gives it.
        text: the StableHLO.

    Attributes:
        compiling: the seconds that compilation took.
    """

    def __init__(self, client, text):
        # JAX has no public call that compiles a text.
        from jax._src.interpreters import mlir
        from jax._src.lib import xla_client
        from jax._src.lib.mlir import ir

        start = time.perf_counter()
        options = xla_client.CompileOptions()
        with mlir.make_ir_context():
            module = ir.Module.parse(text)
            if hasattr(client, "compile_and_load"):
                devices = xla_client.DeviceList(tuple(client.local_devices()[:1]))
                self._executable = client.compile_and_load(module, devices, options)
            else:
                self._executable = client.compile(str(module), options)
        self.compiling = time.perf_counter() - start

    def __call__(self, arguments):
        """The outputs, on the device; they may still be on their way."""
        parts = self._executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
        return [part[0] for part in parts]

    def seconds(self, arguments):
        """How long a call takes, until all outputs are there."""
        start = time.perf_counter()
        for output in self(arguments):
            output.block_until_ready()
        return time.perf_counter() - start
