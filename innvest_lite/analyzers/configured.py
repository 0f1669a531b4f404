"""How an analyzer is written down and made again, for a file or for another model. A base of `Analyzer`."""

from __future__ import annotations

from typing import Any

import keras

from innvest_lite.functions import check_saveable, config_of, from_config
from innvest_lite.preprocessing import Preprocessor

_OF_THE_MODEL = "of the model"  # stands for the preprocessor that a KerasHub task brings


class Configured:
    """Has a model and options, and is made of them again. Subclasses add their own options to `get_config`."""

    model: Any
    name: str
    output_choice: str | None
    jit_choice: bool | str
    neuron_selection_mode: str
    preprocessor: Preprocessor | None
    input_shape_choice: Any
    target_choice: Any

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        model = keras.saving.serialize_keras_object(self.model)
        # How the model was trained does not matter here, and its loss may be a function that no file can hold.
        model.pop("compile_config", None)
        choices = {"output": self.output_choice, "jit_compile": self.jit_choice, "name": self.name}
        choices |= {"neuron_selection_mode": self.neuron_selection_mode, "input_shape": self.input_shape_choice.value}
        choices["target"] = self.target_choice.value and config_of(self.target_choice.value)
        preprocessor = self.preprocessor and self.preprocessor.config()
        if self.preprocessor is not None and self.preprocessor.given is getattr(self.model, "preprocessor", None):
            # Written down twice it would be two objects, of which Keras saves the vocabulary of one.
            preprocessor = _OF_THE_MODEL
        return {"model": model, **choices, "preprocessor": preprocessor}

    def check_saveable(self) -> None:
        """Raises InvalidInputError where Keras could save the preprocessor or the target, but not load it again."""
        if self.preprocessor is not None:
            self.preprocessor.check_saveable()
        if self.target_choice.value is not None:
            check_saveable(self.target_choice.value, "The target")

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """An analyzer from `get_config`; a model file's custom layers come through `custom_objects`, as in Keras."""
        model = config["model"]
        model = model if isinstance(model, keras.Model) else keras.saving.deserialize_keras_object(model)
        given = config.get("preprocessor")
        own = isinstance(given, str) and given == _OF_THE_MODEL
        preprocessor = Preprocessor.of(model.preprocessor) if own else Preprocessor.from_config(given)
        made: Any = cls
        target = from_config(config.get("target"))
        return made(**{**config, "model": model, "preprocessor": preprocessor, "target": target})

    def for_model(self, model: Any) -> Any:
        """An analyzer of the same method and options for another model."""
        own = {"preprocessor": self.preprocessor, "target": self.target_choice.value}
        return type(self).from_config({**self.get_config(), "model": model, **own})
