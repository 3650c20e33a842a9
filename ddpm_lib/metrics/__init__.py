"""How far a set of generated images is from a set of real ones, and the small digit classifier that tells offline.

An *extractor* turns 8-bit images into feature vectors; the distances compare two sets of such vectors. Distances in the
features of different extractors have different scales and must not be compared with each other.

``python -m ddpm_lib.metrics --out DIR`` trains the classifier anew, as its card in ``weights/digit_classifier`` tells.
"""

from ddpm_lib.metrics.digits import (
    CLASSIFIER,
    DigitClassifier,
    correct,
    digit_features,
    load_classifier,
    train_digit_classifier,
)
from ddpm_lib.metrics.distances import (
    frechet_between,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
    kernel_subsets,
    moments,
    nearest,
)
from ddpm_lib.metrics.extractors import Extractor, features, inception_features
from ddpm_lib.metrics.intervals import (
    GROUPS,
    jackknife_interval,
    mean_interval,
    median_interval,
    share_interval,
    smaller_interval,
)
from ddpm_lib.metrics.report import Report, Row

__all__ = [
    "CLASSIFIER",
    "GROUPS",
    "DigitClassifier",
    "Extractor",
    "Report",
    "Row",
    "correct",
    "digit_features",
    "features",
    "frechet_between",
    "frechet_distance",
    "frechet_interval",
    "inception_features",
    "jackknife_interval",
    "kernel_distance",
    "kernel_interval",
    "kernel_subsets",
    "load_classifier",
    "mean_interval",
    "median_interval",
    "moments",
    "nearest",
    "share_interval",
    "smaller_interval",
    "train_digit_classifier",
]
