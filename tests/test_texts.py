"""Explanations by words: what a text was read as, the pieces of a word together, without what fills texts up."""

import json

import keras
import models
import numpy as np
import pytest
from command_line import fails, run
from keras import layers

import innvest_lite
from innvest_lite import texts
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError

SAID = ["the film was good", "not a waste of time, unbelievably good"]


def reader(length=8):
    made = layers.TextVectorization(output_sequence_length=length)
    made.adapt(SAID)
    return made


def network(length, masked=False):
    parts = [layers.Embedding(20, 5, mask_zero=masked), layers.Conv1D(4, 2, activation="relu"), layers.Flatten()]
    parts = [layers.Embedding(20, 5, mask_zero=True), layers.GlobalAveragePooling1D()] if masked else parts
    stack = [keras.Input((length,), dtype="int64"), *parts, layers.Dense(6, activation="relu"), layers.Dense(2)]
    return models.randomize(keras.Sequential(stack), seed=4)


def test_words_are_those_of_the_text():
    """In order, without padding, with the numbers that `analyze` gives for the tokens."""
    vectorization, model = reader(), network(8)
    analyzer = innvest_lite.InputTimesGradient(model, preprocessor=vectorization)
    found = texts.explain(analyzer, SAID, target=1)
    assert [one.words for one in found] == [tuple(said.replace(",", "").split()) for said in SAID]
    numbers = np.asarray(vectorization(SAID))
    expected = innvest_lite.InputTimesGradient(model).analyze(numbers, target=1)
    for one, row in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.relevance, row[: len(one.words)], rtol=1e-6)
    assert texts.explain(analyzer, SAID[0], target=1)[0].words == found[0].words  # one text
    assert found[0].to_dict()["words"] == list(found[0].words)
    assert found[0].html().count("<span") == 4 and "unbelievably" in str(found[1]) and found[0]._repr_html_()


def test_occlusion_of_a_word_is_brute_force():
    model = network(8, masked=True)
    analyzer = innvest_lite.Occlusion(model, preprocessor=reader())
    (found,) = texts.explain(analyzer, SAID[:1], target=0)
    numbers = np.asarray(reader()(SAID[:1]))
    for place in range(4):
        without = numbers.copy()
        without[:, place] = 0
        effect = model.predict(numbers, verbose=0)[0, 0] - model.predict(without, verbose=0)[0, 0]
        np.testing.assert_allclose(found.relevance[place], effect, atol=1e-6)


class WordPieces:
    """As KerasHub's: pieces that go on with a word begin with ##."""

    pad_token_id = 0
    every = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##believ", "##ably", "good", "##", "a")

    def get_vocabulary(self):
        return list(self.every)

    def id_to_token(self, number):
        return self.every[number]


class SentencePieces(WordPieces):
    every = ("<pad>", "<unk>", "[CLS]", "[SEP]", "▁un", "believ", "ably", "▁good", "▁", "a")


class BytePairs(WordPieces):
    every = ("<s>", "<pad>", "</s>", "<unk>", "un", "believ", "Ġg", "ood", "Ã", "©")
    pad_token_id = 1


@pytest.mark.parametrize(
    ("tokenizer", "numbers", "words", "sums"),
    [
        (WordPieces(), [2, 4, 5, 6, 7, 3], ("[CLS]", "unbelievably", "good", "[SEP]"), [0, 6, 4, 5]),
        # What begins a text goes on with nothing; neither does what follows a token that the model adds.
        (WordPieces(), [5, 6, 2, 6], ("##believably", "[CLS]", "##ably"), [1, 2, 3]),
        (WordPieces(), [9, 8], ("a", "##"), [0, 1]),
        (SentencePieces(), [2, 4, 5, 6, 7, 8, 9, 3], ("[CLS]", "unbelievably", "good", "a", "[SEP]"), [0, 6, 4, 11, 7]),
        (BytePairs(), [0, 4, 5, 6, 7, 2], ("<s>", "unbeliev", "good", "</s>"), [0, 3, 7, 5]),
        (BytePairs(), [4, 8, 9], ("uné",), [3]),
        (BytePairs(), [8, 6], ("�", "g"), [0, 1]),
        (["", "[UNK]", "good", "film"], [2, 1, 3], ("good", "[UNK]", "film"), [0, 1, 2]),
        (lambda number: f"t{number}", [2, 1], ("t2", "t1"), [0, 1]),
    ],
)
def test_pieces_become_words(tokenizer, numbers, words, sums):
    vocabulary = texts.Vocabulary.of(tokenizer)
    found = vocabulary.words(np.array(numbers), np.arange(len(numbers), dtype="float32"))
    assert found[0] == words
    np.testing.assert_array_equal(found[1], sums)
    assert len(vocabulary.pieces(np.array(numbers), np.array(numbers))[0]) == len(numbers)


def test_a_preprocessor_of_several_inputs():
    """Such as KerasHub's: a dict of tokens, masks and segments is made of the texts, and the tokens are explained."""
    names = {"ids": (12, "int32"), "mask": (12, "bool"), "parts": (12, "int32")}
    inputs = {name: keras.Input((size,), dtype=dtype, name=name) for name, (size, dtype) in names.items()}
    embedded = layers.Embedding(30, 4)(inputs["ids"]) + layers.Embedding(2, 4)(inputs["parts"])
    pooled = layers.GlobalAveragePooling1D()(embedded, mask=inputs["mask"])
    model = models.randomize(keras.Model(inputs, layers.Dense(2)(pooled)), seed=1)
    vectorization = reader(12)

    def prepare(said):
        ids = vectorization(said)
        return {"ids": ids, "mask": ids != 0, "parts": keras.ops.zeros_like(ids)}

    analyzer = innvest_lite.InputTimesGradient(model, preprocessor=prepare)
    by_input = analyzer.analyze(SAID)
    assert {name: one.shape for name, one in by_input.items()} == dict.fromkeys(names, (2, 12))
    direct = innvest_lite.InputTimesGradient(model).analyze(keras.tree.map_structure(np.asarray, prepare(SAID)))
    np.testing.assert_allclose(by_input["ids"], direct["ids"], rtol=1e-6)
    found = texts.explain(analyzer, SAID, tokenizer=vectorization)
    assert found[0].words == ("the", "film", "was", "good")
    np.testing.assert_allclose(found[1].relevance, direct["ids"][1, :7], rtol=1e-6)
    with pytest.raises(InvalidInputError, match="say tokenizer="):
        texts.explain(innvest_lite.InputTimesGradient(model, preprocessor=keras.layers.Identity()), SAID)


def test_texts_of_any_length_go_together():
    """TextVectorization fills up to the longest of a call: forty texts are one call."""
    vectorization = layers.TextVectorization()
    vectorization.adapt(SAID)
    model = keras.Sequential([keras.Input((None,), dtype="int64"), layers.Embedding(20, 3), layers.GlobalMaxPooling1D()])
    said = [*["good"] * 39, SAID[1]]
    found = texts.explain(innvest_lite.InputTimesGradient(model, preprocessor=vectorization), said)
    assert [len(one.words) for one in found] == [*[1] * 39, 7]


def test_patterns_of_texts():
    model = network(8)
    analyzer = innvest_lite.PatternAttribution(model, preprocessor=reader()).fit(SAID * 20, verbose=0)
    assert all(np.isfinite(one.relevance).all() for one in texts.explain(analyzer, SAID))


def test_a_model_that_takes_texts_is_split():
    stack = [keras.Input((), dtype="string"), reader(), layers.Embedding(20, 3), layers.GlobalAveragePooling1D()]
    whole = models.randomize(keras.Sequential([*stack, layers.Dense(2)]), seed=2)
    with pytest.raises(UnsupportedLayerError, match=r"innvest_lite\.texts\.split\(model\)"):
        innvest_lite.IntegratedGradients(whole)
    preprocessor, rest = texts.split(whole)
    said = keras.ops.convert_to_tensor(SAID)
    np.testing.assert_allclose(rest(preprocessor(said)), whole(said))
    assert texts.explain(innvest_lite.IntegratedGradients(rest, preprocessor=preprocessor), SAID)[0].words[1] == "film"
    with pytest.raises(InvalidInputError, match="TextVectorization"):
        texts.split(rest)


def test_what_explains_no_texts():
    with pytest.raises(InvalidInputError, match="preprocessor=task.preprocessor"):
        texts.explain(innvest_lite.Gradient(network(8)), SAID)
    of_numbers = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="no input of tokens"):
        texts.explain(innvest_lite.Gradient(of_numbers, preprocessor=reader()), SAID)
    with pytest.raises(InvalidInputError, match="one text is a list of one"):
        innvest_lite.Gradient(network(8), preprocessor=reader()).analyze("good")


def test_an_exported_explainer_takes_the_tokens(tmp_path):
    import tensorflow as tf

    analyzer, numbers = innvest_lite.Gradient(network(8), preprocessor=reader()), np.asarray(reader()(SAID))
    analyzer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(numbers)["attributions"], analyzer.analyze(SAID), atol=1e-7)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    stack = [keras.Input((), dtype="string"), reader(), layers.Embedding(20, 3), layers.GlobalAveragePooling1D()]
    models.randomize(keras.Sequential([*stack, layers.Dense(2)]), seed=2).save(folder / "model.keras")
    (folder / "said.txt").write_text(f"{SAID[0]}\n\n <b>good</b> & bad \n", encoding="utf-8")
    return folder


def test_the_command_line_explains_lines(saved, tmp_path):
    assert run("analyze", saved / "model.keras", saved / "said.txt", "--method", "occlusion", "--out", tmp_path) == 0
    written = json.loads((tmp_path / "said.occlusion.json").read_text(encoding="utf-8"))
    assert [one["text"] for one in written] == [SAID[0], "<b>good</b> & bad"]
    preprocessor, rest = texts.split(keras.saving.load_model(saved / "model.keras"))
    (expected,) = texts.explain(innvest_lite.Occlusion(rest, preprocessor=preprocessor), SAID[:1])
    assert tuple(written[0]["words"]) == expected.words
    np.testing.assert_allclose(written[0]["relevance"], expected.relevance, rtol=1e-6)
    page = (tmp_path / "said.occlusion.html").read_text(encoding="utf-8")
    assert page.count("<p ") == 2 and "<b>" not in page
    logits = rest.predict(preprocessor(SAID[:1]), verbose=0)[0]
    explained = written[0]["explained"]
    assert (explained["class"], explained["unit"]) == (int(logits.argmax()), "logit")
    assert explained["score"] == pytest.approx(float(logits.max()), rel=1e-5)
    assert f"0: class {logits.argmax()}, logit {logits.max():.2f}" in page
    rows = json.loads((tmp_path / "explanations.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in rows] == ["said.txt[0]", "said.txt[1]"] and rows[0]["class"] == explained["class"]


def test_files_that_hold_no_texts(saved, tmp_path, capsys):
    model = saved / "model.keras"
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\xff")
    assert "holds no text" in fails(capsys, "analyze", model, tmp_path / "empty.txt", "--method", "gradient")
    assert "not UTF-8" in fails(capsys, "analyze", model, tmp_path / "odd.txt", "--method", "gradient")
    assert "No folder or file is called" in fails(capsys, "analyze", model, tmp_path / "none.txt", "--method", "gradient")
    said = saved / "said.txt"
    assert "--overlay is for images" in fails(capsys, "analyze", model, said, "--method", "gradient", "--overlay")
    assert "is for images" in fails(capsys, "analyze", model, said, "--method", "gradient", "--preprocess", "vgg16")


def test_tokenizers_that_do_not_know(tmp_path):
    vectorization = reader()
    analyzer = innvest_lite.Occlusion(network(8), preprocessor=lambda said: vectorization(said))
    with pytest.raises(InvalidInputError, match="say tokenizer="):
        texts.explain(analyzer, SAID)
    with pytest.raises(InvalidInputError, match="lists 2 tokens"):
        texts.explain(analyzer, SAID, tokenizer=["", "[UNK]"])
    assert texts.explain(analyzer, keras.ops.convert_to_tensor(SAID), tokenizer=vectorization)[0].words[1] == "film"


def test_functions_get_texts_and_layers_tensors():
    seen = []

    def prepare(said):
        seen.extend(said)
        return reader()(said)

    innvest_lite.Gradient(network(8), preprocessor=prepare).analyze(SAID)
    assert seen == SAID and all(type(one) is str for one in seen)


def test_inspect_looks_behind_the_texts(saved, capsys):
    assert run("inspect", saved / "model.keras", "--all") in (0, 1)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["integrated_gradients"].endswith("yes") and lines["occlusion"].endswith("yes")


def test_filling_is_left_out_wherever_it_lies():
    """Also before a text, and in the sentences of a document."""
    numbers = np.array([[0, 0, 1, 2, 0, 3], [1, 0, 0, 2, 3, 0]], "int64")
    every = ["<pad>", "a", "b", "c"]
    analyzer = innvest_lite.InputTimesGradient(network(6), preprocessor=lambda said: numbers[: len(said)])
    assert [one.words for one in texts.explain(analyzer, SAID, tokenizer=every)] == [("a", "b", "c")] * 2
    keras.utils.set_random_seed(1)
    embedded = layers.TimeDistributed(layers.Embedding(4, 3))(x := keras.Input((2, 3), dtype="int64"))
    document = keras.Model(x, layers.Dense(2)(layers.Flatten()(embedded)))
    analyzer = innvest_lite.InputTimesGradient(document, preprocessor=lambda said: numbers[: len(said)].reshape(-1, 2, 3))
    (found,) = texts.explain(analyzer, SAID[:1], tokenizer=every)
    assert found.words == ("a", "b", "c")
    np.testing.assert_allclose(found.relevance, analyzer.analyze(SAID[:1]).ravel()[[2, 3, 5]], rtol=1e-6)
    with pytest.raises(InvalidInputError, match="list of str"):
        texts.explain(analyzer, 5, tokenizer=every)


def test_models_that_are_not_split():
    """What lies before what reads the texts, or beside it, would be lost."""
    vectorization, x = reader(), keras.Input((), dtype="string")
    rest = network(8)
    twice = keras.Model(x, rest(vectorization(x)) + rest(vectorization(x)))
    before = keras.Model(x, rest(vectorization(layers.Lambda(keras.ops.copy, output_shape=())(x))))
    ends = keras.Sequential([keras.Input((), dtype="string"), reader()])
    for model in (twice, before, ends):
        with pytest.raises(InvalidInputError, match="does not begin with|TextVectorization"):
            texts.split(model)
