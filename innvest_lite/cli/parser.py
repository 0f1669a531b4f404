"""The arguments of `innvest-lite`. Called by `main`; imports nothing heavy, so that `--help` is fast."""

from __future__ import annotations

import argparse

import innvest_lite
from innvest_lite.cli import types
from innvest_lite.cli.examples import EXAMPLES

_MODEL = "a Keras model: a .keras or .h5 file"
_IMAGES = 'images, folders of them, or patterns such as "photos/*.jpg" (PNG, JPEG, BMP, GIF, WebP, TIFF)'
_DATA = f"{_IMAGES}; a .npy file of inputs as the model takes them; a .csv table with a feature in each column"
_TEXTS = "a .txt file with a text on each line, for a model with a "
_TEXTS += "TextVectorization layer or KerasHub's preprocessor"
_LABELS = "names of the classes: a file with one on each line, a .json list or dict, or names between commas; default: the "
_LABELS += "names of the folders, sorted, if there are as many as classes"
_ESTIMATOR = "relu.rectified (default), relu.safe, relu, relu.negative, linear or filter; or by kind of layer, such as "
_ESTIMATOR += "sum=linear,output=relu"
_PREPROCESS = 'how pixels in 0..255 become inputs: "none" (default), "unit" (divided by 255), or a model\'s name in '
_PREPROCESS += 'keras.applications, such as vgg16, or "model": the preprocessor that a KerasHub model brings'

_EVALUATED = """degradation.csv: the area over each method's curve with its 95 % interval (low, high), and gain, the mean
over samples of the difference to a random order, with its own interval; ranked_by, what patches were ranked by; start and
end, the mean probability with no patch replaced and after the last; with --order both also between, the area between the
curves with the most and the least relevant patch first. degradation_curves.csv: the mean probability after each patch.
signal.csv: rho per layer, neuron and estimator, with the floor below which a distance from 1 means nothing, and the number
of rows. ground_truth.csv (with --truth): each method's scores against the masks, "local", the mean over samples with its
95 % interval, and, where all samples share one truth, "global", of the mean of all maps; gain is over a constant map. All
samples count, also those that the model gets wrong, since labels are not known here. Plots are beside them (with
matplotlib); evaluation.json holds the arguments."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `arguments.command` is the name of the one that was given."""
    parser = argparse.ArgumentParser(
        prog="innvest-lite",
        description="Explains Keras models of images, tables, series and texts: PatternNet, PatternAttribution and others.",
        epilog="Begin with: innvest-lite demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {innvest_lite.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _command(commands, "methods", "the methods by name")
    _add_inspect(commands)
    _add_fit(commands)
    _add_merge(commands)
    _add_analyze(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _add_report(commands)
    return parser


def _add_demo(commands):
    summary = "a method of every family on a shipped digit classifier, as one picture"
    demo = _command(commands, "demo", summary)
    _add_out(demo, default="innvest-lite-demo", metavar="DIR", help="folder for demo.png and what it shows (%(default)s)")
    demo.add_argument("--digits", type=types.positive, default=10, metavar="N", help="how many to explain (%(default)s)")
    demo.add_argument(
        "--seed",
        type=int,
        help="choose others at random, but for the one that the model gets wrong; default: the first ones of each class",
    )
    demo.add_argument("--all", action="store_true", help="all methods, not only one of each family")


def _add_inspect(commands):
    inspect = _command(commands, "inspect", "what a method does with each layer of a model, and what is unsupported")
    _add_model(inspect, nargs="?")
    which = inspect.add_mutually_exclusive_group()
    which.add_argument("--method", default="pattern.attribution", metavar="NAME", help="which one (%(default)s)")
    which.add_argument(
        "--all", action="store_true", help="a line for each method: whether it goes, and else where it stops"
    )
    which.add_argument("--patterns", metavar="FILE", help="instead of a plan: the report of a pattern file")
    inspect.add_argument("--csv", action="store_true", help="with --patterns: as comma-separated values")
    _add_output_name(inspect)


def _add_fit(commands):
    fit = _command(commands, "fit", "fits a model's patterns on images or arrays, all at once or in parts")
    _add_model(fit)
    fit.add_argument("data", metavar="DATA", nargs="+", help=_DATA)
    _add_columns(fit)
    _add_out(fit, required=True, metavar="FILE", help="the pattern file to write, such as patterns.h5")
    _add_overwrite(fit)
    fit.add_argument("--estimator", type=types.estimator, help=_ESTIMATOR)
    fit.add_argument(
        "--approximate",
        action="store_true",
        help="faster: take the mean input of the positive regime from a part of the data",
    )
    _add_former(fit, "--sampled", dest="approximate", action="store_true")
    fit.add_argument(
        "--shard",
        type=types.shard,
        metavar="I/N",
        help="fit on the I-th of N parts of DATA, I from 1 to N; --out then holds sums, for merge",
    )
    fit.add_argument("--max-batches", dest="steps", type=types.positive, metavar="N", help="at most so many batches")
    _add_former(fit, "--steps", dest="steps", type=types.positive)
    fit.add_argument(
        "--checkpoint", metavar="FILE", help="a file to save the sums in, from which an interrupted fit continues"
    )
    _add_reading(fit)


def _add_merge(commands):
    merge = _command(commands, "merge", "makes patterns from the parts that fit --shard wrote")
    merge.add_argument("parts", metavar="PART", nargs="+", help="all parts, in any order")
    _add_out(merge, required=True, metavar="FILE", help="the pattern file to write")
    merge.add_argument(
        "--estimator", type=types.estimator, help="as in fit; default: the one that the parts were fitted for"
    )
    merge.add_argument("--partial", action="store_true", help="do without the parts that are missing")
    merge.add_argument("--statistics", action="store_true", help="write sums, to be merged further, not patterns")


def _add_analyze(commands):
    analyze = _command(
        commands, "analyze", "explains images, tables, series or texts: pictures, values, and what was explained"
    )
    _add_model(analyze)
    analyze.add_argument("images", metavar="IMAGES", nargs="+", help=f"{_DATA}; or {_TEXTS}")
    _add_method(analyze)
    analyze.add_argument(
        "--composite", metavar="NAME", help="LRP by this composite, such as epsilon_plus, alpha2_beta1 or attn_lrp"
    )
    _add_out(analyze, default="explanations", metavar="DIR", help="folder for the results (%(default)s)")
    _add_overwrite(analyze)
    analyze.add_argument(
        "--target",
        type=types.target,
        metavar="K",
        help='the class to explain: a number from 0, a name of --labels, or "all"; of a segmentation also one position, '
        "ROW,COLUMN,K; default: what is predicted",
    )
    analyze.add_argument("--labels", metavar="NAMES", help=_LABELS)
    _add_columns(analyze)
    analyze.add_argument(
        "--save",
        metavar="FILE",
        help="also all explanations in one .npz file, with names, classes and settings; report and evaluate read it",
    )
    look = analyze.add_mutually_exclusive_group()
    look.add_argument("--overlay", action="store_true", help="pictures: only the map on the photograph, at its size")
    look.add_argument("--plain", action="store_true", help="pictures: only the map, at the model's size")
    analyze.add_argument("--format", choices=("png", "jpg", "webp"), default="png", help="of the pictures (%(default)s)")
    _add_colormap(analyze)
    _add_reading(analyze)


def _add_export(commands):
    export = _command(commands, "export", "writes a method for a model as a file that runs without this package")
    _add_model(export)
    _add_method(export)
    _add_out(export, required=True, metavar="PATH", help="a folder, or a file that ends in .tflite or .onnx")
    export.add_argument(
        "--format", choices=("tf_saved_model", "litert", "onnx"), help="default: by the ending of PATH, else a SavedModel"
    )
    export.add_argument(
        "--target",
        choices=("argmax", "input"),
        default="argmax",
        help="what is explained: what is predicted, or the class that the caller names as a further input (%(default)s)",
    )
    export.add_argument("--no-predictions", action="store_true", help="do not include the model's own output")
    export.add_argument("--batch", type=types.positive, metavar="N", help="the number of samples of a call; default: any")
    export.add_argument("--preprocess", metavar="NAME", help=f"take uint8 images; {_PREPROCESS.replace(' (default)', '')}")
    export.add_argument("--render", choices=("heatmap", "signal", "overlay"), help="include pictures")
    _add_colormap(export)
    export.add_argument(
        "--input-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of what the model takes, for the description"
    )


def _add_evaluate(commands):
    evaluate = _command(commands, "evaluate", "compares methods: image degradation and rho, as tables and plots")
    evaluate.epilog = f"{_EVALUATED}\n{evaluate.epilog}"
    _add_model(evaluate)
    evaluate.add_argument("data", metavar="DATA", nargs="+", help=_DATA)
    _add_columns(evaluate)
    _add_methods(evaluate, "DATA")
    _add_out(evaluate, default="evaluation", metavar="DIR", help="folder for the results (%(default)s)")
    _add_overwrite(evaluate)
    evaluate.add_argument("--limit", type=types.positive, metavar="N", help="use N random samples of DATA; default: all")
    _add_truth(evaluate)
    _add_degradation(evaluate)
    _add_reading(evaluate)


def _add_report(commands):
    report = _command(
        commands, "report", "explanations of images or a table's rows on one HTML page, which needs no network"
    )
    _add_model(report)
    report.add_argument("images", metavar="IMAGES", nargs="+", help=f"{_IMAGES}; or a table, .csv or .npy")
    _add_columns(report)
    _add_methods(report, "IMAGES")
    _add_out(report, default="report.html", metavar="FILE", help="the page (%(default)s)")
    report.add_argument("--labels", metavar="NAMES", help=_LABELS)
    report.add_argument(
        "--top",
        type=types.positive,
        default=3,
        metavar="N",
        help="the number of classes shown for each image (%(default)s)",
    )
    report.add_argument(
        "--limit",
        type=types.positive,
        default=24,
        metavar="N",
        help="show at most N images, as many of each folder (%(default)s)",
    )
    report.add_argument(
        "--percentile",
        type=types.percentile,
        default=99.5,
        metavar="P",
        help="the percentile of a heat map's magnitudes that gets the full colour (%(default)s)",
    )
    report.add_argument("--degradation", action="store_true", help="also curves of image degradation, on these images")
    _add_degradation(report)
    _add_reading(report)


def _add_methods(command, data):
    command.add_argument(
        "--methods",
        type=types.names,
        metavar="A,B,C",
        help='names that "innvest-lite methods" lists; default: one per family',
    )
    command.add_argument("--patterns", metavar="FILE", help=f"for the pattern methods; default: fitted on {data}")
    command.add_argument(
        "--attributions",
        action="append",
        default=[],
        metavar="FILE",
        help="a file of analyze --save, instead of a method; may be repeated",
    )
    command.add_argument("--signal", action="store_true", help=f"also rho of signal estimators, fitted on {data}")


def _add_truth(command):
    command.add_argument(
        "--truth",
        metavar="FILE",
        help="also scores against what is known to matter: a .npy file of masks, True there, one for each sample of DATA "
        "(a .npy file) or one for all, (samples or 1, positions...)",
    )
    command.add_argument(
        "--truth-signal", metavar="FILE", help="with --truth: also the correlation with the signal in this .npy file"
    )
    command.add_argument("--emd", action="store_true", help="with --truth: also the earth mover's distance; needs POT")


def _add_degradation(command):
    command.add_argument("--patch", type=types.positive, metavar="N", help="the side of a patch; default: 9, of tables 1")
    command.add_argument(
        "--max-patches",
        dest="steps",
        type=types.positive,
        default=100,
        metavar="N",
        help="the number of patches to replace (%(default)s)",
    )
    _add_former(command, "--steps", dest="steps", type=types.positive)
    command.add_argument(
        "--replace",
        choices=("patch_mean", "image_mean", "data_mean", "zero"),
        help="what patches are replaced by; default: patch_mean, of tables data_mean",
    )
    command.add_argument(
        "--order",
        choices=("most", "least", "both"),
        default="most",
        help="which patches first; both: also the area between the two curves (%(default)s)",
    )
    command.add_argument(
        "--rank-by",
        choices=("auto", "signed", "magnitude"),
        default="auto",
        help="what patches are ranked by; auto: signals and gradients by magnitude (%(default)s)",
    )
    command.add_argument("--seed", type=types.whole, default=0, metavar="N", help="of random choices (%(default)s)")
    command.add_argument("--logits", action="store_true", help="the model ends in logits: add a softmax")


def _command(commands, name, summary):
    """A command, with its examples below its options."""
    description = f"{summary[0].upper()}{summary[1:]}."
    shown = "".join(f"\n  innvest-lite {example}" for example in EXAMPLES[name])
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:{shown}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


class _Formatter(argparse.HelpFormatter):
    """Wraps all texts but examples, which stay on their lines."""

    def _fill_text(self, text, width, indent):
        before, examples, lines = text.partition("examples:\n")
        filled = super()._fill_text(before, width, indent) + "\n\n" if before else ""
        return f"{filled}{examples}{lines}" if examples else super()._fill_text(text, width, indent)


def _add_model(command, **options):
    command.add_argument("model", metavar="MODEL", help=_MODEL, **options)
    command.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a Python module to import first, with layers of your own that Keras has to know; may be repeated",
    )


def _add_columns(command):
    command.add_argument(
        "--columns",
        type=types.names,
        metavar="A,B,C",
        help="of a .csv table: the columns that the model takes, in its order",
    )


def _add_colormap(command):
    command.add_argument(
        "--colormap", default="blue-white-red", metavar="NAME", help="of the pictures, such as seismic, jet or %(default)s"
    )


def _add_method(command):
    command.add_argument(
        "--method",
        metavar="NAME",
        help='one that "innvest-lite methods" lists; default: one that goes with the model and needs no fit',
    )
    command.add_argument("--patterns", metavar="FILE", help='a file written by "innvest-lite fit", for the pattern methods')
    command.add_argument(
        "--option",
        type=types.option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as steps=16, epsilon=0.01 or input_layer_rule=0,1; may be repeated",
    )
    _add_output_name(command)


def _add_out(command, **options):
    command.add_argument("-o", "--out", **options)


def _add_overwrite(command):
    command.add_argument("--overwrite", action="store_true", help="replace results of an earlier run")


def _add_former(command, name, **options):
    """The former name of an option, understood for one release and not shown."""
    command.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **options)


def _add_output_name(command):
    command.add_argument("--output-name", metavar="NAME", help="which output, where the model has several")


def _add_reading(command):
    command.add_argument("--preprocess", default="none", metavar="NAME", help=_PREPROCESS)
    command.add_argument(
        "--size", type=types.positive, nargs=2, metavar=("HEIGHT", "WIDTH"), help="for models that accept any size"
    )
    command.add_argument(
        "--batch-size", type=types.positive, default=32, metavar="N", help="images at a time (%(default)s)"
    )
