"""Models in files that the lowest Keras that the package allows can read, too. Called by `scripts/make`."""

import json
import zipfile

# Options that newer Keras writes and the lowest that the package allows does not know: of initializers, and of Dense.
LATER_OPTIONS = ("input_axes", "output_axes", "quantization_config")


def save_for_older_keras(classifier, path):
    """Saves a model such that Keras 3.11.3 can read it, too; every option that is left out was None."""
    classifier.save(path)
    with zipfile.ZipFile(path) as file:
        contents = {info: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for info, content in contents.items():
            if info.filename == "config.json":
                content = json.dumps(json.loads(content, object_hook=_without_later_options)).encode()
            file.writestr(info, content)


def _without_later_options(config):
    return {name: value for name, value in config.items() if name not in LATER_OPTIONS or value is not None}
