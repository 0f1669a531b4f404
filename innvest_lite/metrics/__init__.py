"""Is an explanation any good? The measures of Kindermans et al. 2017 (arXiv 1705.05598), known truth, and sanity checks."""

from innvest_lite.metrics.comparison import DegradationTable, degradation_table
from innvest_lite.metrics.curves import Degradation
from innvest_lite.metrics.degradation import degradation
from innvest_lite.metrics.deletion import SingleDeletion, SingleDeletionTable, single_deletion, single_deletion_table
from innvest_lite.metrics.ground_truth import ground_truth
from innvest_lite.metrics.invariance import InputInvariance, input_invariance
from innvest_lite.metrics.missing import MissingCell
from innvest_lite.metrics.properties import Completeness, MaxSensitivity, completeness, max_sensitivity, sparseness
from innvest_lite.metrics.quality import LayerQuality, SignalQuality
from innvest_lite.metrics.sanity import Convergence, Randomization, RandomLogit, convergence, random_logit, randomization
from innvest_lite.metrics.scores import GroundTruth, GroundTruthTable, ground_truth_table
from innvest_lite.metrics.seeds import GroundTruthSeeds, ground_truth_seeds
from innvest_lite.metrics.signal import signal_quality
from innvest_lite.metrics.similarity import spearman, ssim

__all__ = [
    "Completeness",
    "Convergence",
    "Degradation",
    "DegradationTable",
    "GroundTruth",
    "GroundTruthSeeds",
    "GroundTruthTable",
    "InputInvariance",
    "LayerQuality",
    "MaxSensitivity",
    "MissingCell",
    "RandomLogit",
    "Randomization",
    "SignalQuality",
    "SingleDeletion",
    "SingleDeletionTable",
    "completeness",
    "convergence",
    "degradation",
    "degradation_table",
    "ground_truth",
    "ground_truth_seeds",
    "ground_truth_table",
    "input_invariance",
    "max_sensitivity",
    "random_logit",
    "randomization",
    "signal_quality",
    "single_deletion",
    "single_deletion_table",
    "sparseness",
    "spearman",
    "ssim",
]
