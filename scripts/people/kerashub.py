"""KerasHub's tasks and backbones, tiny and of random weights, as `from_preset` gives them."""

import keras
import numpy as np

from .base import model, named, normal, numbers

_SIZES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32, "max_sequence_length": 8}


def _padding(generator):
    mask = np.ones((3, 8), "int32")
    mask[1, 5:] = 0
    return mask


def _segments(generator):
    return generator.integers(0, 2, (3, 8)).astype("int32")


def _inputs(*more):
    parts = {"token_ids": numbers(8, 30), "segment_ids": _segments, "padding_mask": _padding}
    return named(**{name: part for name, part in parts.items() if name == "token_ids" or name in more})


def _text(name, prefix, more, **options):
    """Takes the text classifier of a family of backbones in."""

    def build():
        import keras_hub

        backbone = getattr(keras_hub.models, f"{prefix}Backbone")(vocabulary_size=30, **_SIZES, **options)
        return getattr(keras_hub.models, f"{prefix}TextClassifier")(backbone=backbone, num_classes=3)

    tokens = ("token_ids", "segment_ids") if "segment_ids" in more else ("token_ids",)
    model(f"KerasHub {name} classifier", "kerashub", _inputs(*more), tokens=tokens)(build)


_text("BERT", "Bert", ("segment_ids", "padding_mask"))
_text("DistilBERT", "DistilBert", ("padding_mask",))
_text("RoBERTa", "Roberta", ("padding_mask",))
_text("XLM-RoBERTa", "XLMRoberta", ("padding_mask",))
_text("ALBERT", "Albert", ("segment_ids", "padding_mask"), embedding_dim=8)
_text("DeBERTaV3", "DebertaV3", ("padding_mask",), bucket_size=4)


@model("KerasHub FNet classifier", "kerashub", _inputs("segment_ids"), tokens=("token_ids", "segment_ids"))
def fnet():
    """It takes no number of heads."""
    import keras_hub

    sizes = {name: size for name, size in _SIZES.items() if name != "num_heads"}
    backbone = keras_hub.models.FNetBackbone(vocabulary_size=30, **sizes)
    return keras_hub.models.FNetTextClassifier(backbone=backbone, num_classes=3)


@model("KerasHub GPT-2 backbone and a head of one's own", "kerashub", _inputs("padding_mask"), tokens=("token_ids",))
def gpt2():
    """The last token's features to two classes."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(vocabulary_size=30, **_SIZES)
    outputs = keras.layers.Dense(2, activation="softmax")(backbone.output[:, -1, :])
    return keras.Model(backbone.input, outputs)


@model(
    "KerasHub BERT backbone inside a Functional model",
    "kerashub",
    _inputs("segment_ids", "padding_mask"),
    tokens=("token_ids", "segment_ids"),
)
def bert_inside():
    """The pooled output to a dense layer, the backbone as one layer."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(vocabulary_size=30, **_SIZES)
    inputs = {name: keras.Input((8,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}
    x = backbone(inputs)["pooled_output"]
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.1)(x)))


@model("KerasHub transformer layers", "kerashub", numbers(8, 30, padded=3), tokens=(0,))
def hub_layers():
    """TokenAndPositionEmbedding with a mask, TransformerEncoder, average."""
    import keras_hub

    inputs = keras.Input((8,), dtype="int32")
    x = keras_hub.layers.TokenAndPositionEmbedding(30, 8, 12, mask_zero=True)(inputs)
    x = keras_hub.layers.TransformerEncoder(intermediate_dim=24, num_heads=2)(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="sigmoid")(x))


@model("KerasHub RetinaNet detector, class scores", "kerashub", normal(64, 64, 3), output="cls_logits")
def retinanet():
    """Boxes and classes at each anchor of three levels."""
    import keras_hub

    sizes = {**_RESNET, "stackwise_num_filters": [64] * 4, "stackwise_num_blocks": [1] * 4}
    sizes |= {"stackwise_num_strides": [1, 2, 2, 2], "block_type": "basic_block", "image_shape": (64, 64, 3)}
    encoder = keras_hub.models.ResNetBackbone(**sizes)
    levels = {"min_level": 3, "max_level": 5, "use_p5": False, "image_shape": (64, 64, 3)}
    backbone = keras_hub.models.RetinaNetBackbone(image_encoder=encoder, **levels)
    options = {"bounding_box_format": "xyxy", "pre_logits_num_conv_layers": 1}
    return keras_hub.models.RetinaNetObjectDetector(backbone=backbone, num_classes=4, **options)


def _image(name, prefix, options, size=32, **task):
    """Takes the image classifier of a family of backbones in."""

    def build():
        import keras_hub

        shape = {"input_shape" if prefix == "EfficientNet" else "image_shape": (size, size, 3)}
        backbone = getattr(keras_hub.models, f"{prefix}Backbone")(**shape, **options)
        return getattr(keras_hub.models, f"{prefix}ImageClassifier")(backbone=backbone, num_classes=3, **task)

    model(f"KerasHub {name} classifier", "kerashub", normal(size, size, 3))(build)


_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
}
_image("ResNet", "ResNet", {**_RESNET, "block_type": "basic_block"})
_image("ResNet v2, bottleneck,", "ResNet", {**_RESNET, "block_type": "bottleneck_block", "use_pre_activation": True})
_image("VGG", "VGG", {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [6, 8]}, pooling="avg")
_image("DenseNet", "DenseNet", {"stackwise_num_repeats": [2, 2], "growth_rate": 6})
_image(
    "Xception",
    "Xception",
    {"stackwise_conv_filters": [[6, 8], [8, 12], [12, 12]], "stackwise_pooling": [True, True, False]},
)
_image(
    "EfficientNet",
    "EfficientNet",
    {
        "stackwise_width_coefficients": [1.0] * 3,
        "stackwise_depth_coefficients": [1.0] * 3,
        "stackwise_kernel_sizes": [3, 3, 5],
        "stackwise_num_repeats": [1, 2, 1],
        "stackwise_input_filters": [8, 8, 16],
        "stackwise_output_filters": [8, 16, 16],
        "stackwise_expansion_ratios": [1, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25, 0.25],
        "stackwise_strides": [1, 2, 2],
        "stackwise_block_types": ["fused", "v1", "unfused"],
        "stackwise_force_input_filters": [0] * 3,
        "stackwise_nores_option": [False] * 3,
        "num_features": 32,
    },
)
_image(
    "MobileNetV3",
    "MobileNet",
    {
        "stackwise_expansion": [[16, 24], [32]],
        "stackwise_num_blocks": [2, 1],
        "stackwise_num_filters": [[8, 8], [16]],
        "stackwise_kernel_size": [[3, 3], [5]],
        "stackwise_num_strides": [[2, 1], [2]],
        "stackwise_se_ratio": [[None, None], [0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish"]],
        "stackwise_padding": [[1, 1], [2]],
        "output_num_filters": 32,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 32,
        "squeeze_and_excite": 0.5,
        "input_num_filters": 8,
    },
)
_image(
    "HGNetV2",
    "HGNetV2",
    {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [[8, 8, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    },
    head_filters=16,
    preprocessor=None,
)
_image(
    "MiT",
    "MiT",
    {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
    },
)
_image("ViT", "ViT", {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32})
_image("DeiT", "DeiT", {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32})
_image(
    "Swin",
    "SwinTransformer",
    {"patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
)
_image(
    "CSPDarkNet",
    "CSPNet",
    {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 1],
        "stackwise_strides": [2, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "csp",
        "bottle_ratio": [1.0],
        "block_ratio": [0.5],
        "expand_ratio": [1.0],
        "down_growth": True,
    },
)
