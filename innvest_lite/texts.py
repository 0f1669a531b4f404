"""Explanations of texts, by words: from texts and an analyzer of a model of tokens to a number for each word.

Models see the numbers of tokens, and tokens are often pieces of words: the relevance of the pieces of a word is added up.
Called by users and the command line.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import visualize
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import MASK, TOKENS
from innvest_lite.graph.trace import part_behind
from innvest_lite.options import truth
from innvest_lite.tables import Brief, table

# What begins a word in the pieces of SentencePiece, and of byte-level pairs; what goes on with one in WordPiece's.
_SENTENCE, _BYTES, _WORD = "▁", "Ġ", "##"
# What tells tokens by their numbers, of a preprocessor.
_KNOWING = ("tokenizer", "id_to_token", "get_vocabulary")
_READERS = (keras.layers.TextVectorization, keras.layers.StringLookup, keras.layers.Hashing)
_FILLERS = ("", "[PAD]", "<pad>", "[pad]", "<PAD>")
_SPECIAL = re.compile(r"<[^<>]*>|\[[A-Z]+\]")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TextExplanation(Brief):
    """A text and what its words have to do with a model's output.

    Attributes:
        words: what the text was read as, a tuple of str: words, or tokens; those that the model adds are among them.
        relevance: a number for each, float64 (words,), in the method's unit.
    """

    words: tuple[str, ...]
    relevance: np.ndarray

    def html(self, **options: Any) -> str:
        """The words on the colours of their relevance, see `visualize.tokens` and its options."""
        return visualize.tokens(self.words, self.relevance, **options)

    def to_dict(self) -> dict[str, list]:
        """`{"words": [...], "relevance": [...]}`."""
        return {"words": list(self.words), "relevance": self.relevance.tolist()}

    def _repr_html_(self) -> str:
        return self.html()

    def __str__(self) -> str:
        return table(("word", "relevance"), [(w, f"{r:+.4g}") for w, r in zip(self.words, self.relevance, strict=True)])


def explain(
    analyzer: Any,
    texts: Sequence[str],
    target: Any = None,
    *,
    tokenizer: Any = None,
    whole_words: bool = True,
    batch_size: int = 32,
) -> list[TextExplanation]:
    """Explains texts word by word.

    Args:
        analyzer: an `Analyzer` with a `preprocessor` that makes tokens of texts, such as a TextVectorization layer or that
            of a KerasHub task; fitted where it needs that.
        texts: a list of str, or one.
        target: as in `Analyzer.analyze`.
        tokenizer: what knows the tokens by their numbers: a KerasHub tokenizer or preprocessor, a TextVectorization or
            StringLookup layer, a list of all tokens, or a function of a number. None: the analyzer's preprocessor.
        whole_words: whether the pieces of a word are put together and their relevance added up.
        batch_size: as in `Analyzer.analyze`.

    Returns:
        A list of `TextExplanation`, one for each text. What only fills up a text is left out. Of several inputs of tokens,
        such as KerasHub's `token_ids` and `segment_ids`, it is the relevance of those with the largest vocabulary.

    Raises:
        InvalidInputError: the analyzer has no preprocessor, its model no tokens, or the tokenizer is none.

    Example:
        >>> import keras
        >>> reader = keras.layers.TextVectorization(output_sequence_length=6)
        >>> reader.adapt(["a good film", "a bad film"])
        >>> parts = [keras.layers.Embedding(8, 4), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((6,), dtype="int64"), *parts])
        >>> analyzer = innvest_lite.InputTimesGradient(model, preprocessor=reader)
        >>> [one.words for one in explain(analyzer, ["a good film"])]
        [('a', 'good', 'film')]
    """
    preprocessor, texts = analyzer.preprocessor, [texts] if isinstance(texts, str) else np.asarray(texts).tolist()
    if not isinstance(texts, list):
        raise InvalidInputError(f"texts should be a list of str, but is {texts!r}.")
    if preprocessor is None or isinstance(preprocessor.given, str):
        raise InvalidInputError(
            "An analyzer of texts has a preprocessor that makes tokens of them, such as preprocessor=task.preprocessor of "
            "KerasHub, or a TextVectorization layer."
        )
    if tokenizer is None and not any(hasattr(preprocessor.given, one) for one in _KNOWING):
        raise InvalidInputError(
            f"Which tokens the numbers of {preprocessor.name!r} stand for is not known: say tokenizer=."
        )
    vocabulary = Vocabulary.of(preprocessor.given if tokenizer is None else tokenizer)
    join = vocabulary.words if truth(whole_words, "whole_words") else vocabulary.pieces
    inputs = analyzer.explainer.inputs
    place = _tokens_among(inputs)
    arrays = inputs.flat(texts)
    found = inputs.in_order(analyzer.analyze(texts, target, batch_size=batch_size))[place]
    each = zip(arrays[place], found, _real(inputs, arrays, place, vocabulary.filler), strict=True)
    return [TextExplanation(*join(numbers[real], values[real])) for numbers, values, real in each]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the numbers of tokens stand for.

    Attributes:
        piece: the token of a number.
        filler: the number that fills texts up; None where none is known.
        starts: what tokens at the beginning of a word begin with; "" where all tokens are whole words, but for those
            of WordPiece that go on with one.
        decode: from the letters of tokens to text.
    """

    piece: Callable[[int], str]
    filler: int | None = None
    starts: str = ""
    decode: Callable[[str], str] = str

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a tokenizer, see `explain`.

        Raises:
            InvalidInputError: it is none of these.
        """
        tokenizer = getattr(tokenizer, "tokenizer", None) or tokenizer
        known = getattr(tokenizer, "get_vocabulary", None)
        if callable(getattr(tokenizer, "id_to_token", None)):
            every = list(known()) if callable(known) else []
            return cls._marked(tokenizer.id_to_token, every, getattr(tokenizer, "pad_token_id", None))
        if callable(known):
            tokenizer = known()
        if isinstance(tokenizer, list | tuple) and tokenizer:
            every = [str(one) for one in tokenizer]
            return cls._marked(functools.partial(_listed, every), every, 0 if every[0] in _FILLERS else None)
        if callable(tokenizer) and not isinstance(tokenizer, keras.Layer):
            return cls(lambda number: str(tokenizer(number)))
        raise InvalidInputError(
            f"Tokens become words by a KerasHub tokenizer, a TextVectorization or StringLookup layer, a list of all tokens "
            f"or a function of a number, but got {type(tokenizer).__name__}: say tokenizer=."
        )

    @classmethod
    def _marked(cls, piece, every, filler):
        if any(one.startswith(_SENTENCE) for one in every):
            return cls(piece, filler, _SENTENCE)
        if any(one.startswith(_BYTES) for one in every):
            return cls(piece, filler, _BYTES, _from_bytes)
        return cls(piece, filler)

    def pieces(self, numbers: np.ndarray, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """The tokens as they are, and the numbers of each."""
        return tuple(self.piece(int(number)) for number in numbers), values.astype("float64")

    def words(self, numbers: np.ndarray, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """Words, and the sum of what their tokens have."""
        words: list[str] = []
        sums: list[float] = []
        after_special = True
        for piece, value in zip(*self.pieces(numbers, values), strict=True):
            special = _SPECIAL.fullmatch(piece) is not None
            if words and not special and not after_special and self._goes_on(piece):
                words[-1] += piece.removeprefix(_WORD) if not self.starts else piece
                sums[-1] += value
            else:
                words.append(piece)
                sums.append(value)
            after_special = special
        shown = (word if _SPECIAL.fullmatch(word) else self.decode(word.removeprefix(self.starts)) for word in words)
        return tuple(shown), np.array(sums)

    def _goes_on(self, piece):
        return not piece.startswith(self.starts) if self.starts else piece.startswith(_WORD) and piece != _WORD


def _listed(every, number):
    if not 0 <= number < len(every):
        raise InvalidInputError(f"The tokenizer lists {len(every)} tokens, and the model was given number {number}.")
    return every[number]


def split(model: Any) -> tuple[Any, Any]:
    """A model that takes texts, as the layer that makes tokens of them and the rest, which can be explained.

    Args:
        model: a Functional or Sequential model whose only input goes into a TextVectorization layer, or another that looks
            texts up.

    Returns:
        `(preprocessor, model)`: the layer, for `preprocessor=`, and a model of tokens with the same layers.

    Raises:
        InvalidInputError: the model does not begin so.

    Example:
        >>> import keras
        >>> reader = keras.layers.TextVectorization(output_sequence_length=6)
        >>> reader.adapt(["a good film", "a bad film"])
        >>> parts = [keras.layers.Embedding(8, 4), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> preprocessor, rest = split(keras.Sequential([keras.Input((), dtype="string"), reader, *parts]))
        >>> rest.input_shape
        (None, 6)
    """
    readers = [layer for layer in getattr(model, "layers", ()) if isinstance(layer, _READERS)]
    if len(readers) != 1 or not hasattr(model, "inputs") or len(model.inputs) != 1:
        raise InvalidInputError(
            "A model of texts is split where it has one input, which goes into a TextVectorization layer; this is none. "
            "Build the model from its tokens on, and hand what makes them as preprocessor=."
        )
    (reader,) = readers
    return reader, part_behind(model, reader)


def _tokens_among(inputs):
    """The number of the input that holds the tokens."""
    places = [place for place, kind in enumerate(inputs.kinds) if kind == TOKENS]
    if not places:
        raise InvalidInputError("The model has no input of tokens, whole numbers that it looks up in an Embedding.")
    return max(places, key=lambda place: inputs.vocabularies[place] or 0)


def _real(inputs, arrays, place, filler):
    """Which tokens of each text are no filling, in their shape."""
    tokens = arrays[place]
    masks = [
        array for array, kind in zip(arrays, inputs.kinds, strict=True) if kind == MASK and array.shape == tokens.shape
    ]
    if masks:
        return masks[0] != 0
    return np.ones(tokens.shape, bool) if filler is None else tokens != filler


def _from_bytes(text):
    """Byte-level pairs write each byte as a printable letter: those that are none as the letters from 256 on."""
    return bytes(_BYTE_OF.get(letter, ord("?")) for letter in text).decode("utf-8", errors="replace")


def _letters():
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _letters()
