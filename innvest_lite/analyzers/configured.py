"""How an analyzer is written down and made again, for a file or for another model. A base of `Analyzer`."""

from __future__ import annotations

from typing import Any

import keras

from innvest_lite.preprocessing import Preprocessor


class Configured:
    """Has a model and options, and is made of them again. Subclasses add their own options to `get_config`."""

    model: Any
    name: str
    output_choice: str | None
    jit_choice: bool | str
    neuron_selection_mode: str
    preprocessor: Preprocessor | None
    input_shape_choice: Any

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        model = keras.saving.serialize_keras_object(self.model)
        # How the model was trained does not matter here, and its loss may be a function that no file can hold.
        model.pop("compile_config", None)
        choices = {"output": self.output_choice, "jit_compile": self.jit_choice, "name": self.name}
        choices |= {"neuron_selection_mode": self.neuron_selection_mode, "input_shape": self.input_shape_choice.value}
        return {"model": model, **choices, "preprocessor": self.preprocessor and self.preprocessor.config()}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """An analyzer from `get_config`; a model file's custom layers come through `custom_objects`, as in Keras."""
        model = config["model"]
        model = model if isinstance(model, keras.Model) else keras.saving.deserialize_keras_object(model)
        preprocessor = Preprocessor.from_config(config.get("preprocessor"))
        made: Any = cls
        return made(**{**config, "model": model, "preprocessor": preprocessor})

    def for_model(self, model: Any) -> Any:
        """An analyzer of the same method and options for another model."""
        return type(self).from_config({**self.get_config(), "model": model, "preprocessor": self.preprocessor})
