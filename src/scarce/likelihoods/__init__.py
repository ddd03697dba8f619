"""What a decoder says of the genes: the likelihood p(x | h) of its last hidden layer h.

Every likelihood holds the genes' own weights, one row per gene, and is linear in h up to a
link. Those of log-normalised expression are the squared error of the course report, and
Gaussians with one variance (the sigma-VAE) or with one per gene, the latter with a level of
noise per cell as well (Student's t); those of counts are Poisson, negative binomial and its
zero-inflated form.
"""

from scarce.likelihoods.counts import (
    NegativeBinomial,
    Poisson,
    PoissonLogLink,
    ZeroInflatedNegativeBinomial,
)
from scarce.likelihoods.gaussian import (
    LEAST_VARIANCE,
    Gaussian,
    SharedGaussian,
    SquaredError,
    StudentT,
)
from scarce.likelihoods.likelihood import Likelihood

__all__ = [
    "LEAST_VARIANCE",
    "LIKELIHOODS",
    "Gaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "PoissonLogLink",
    "SharedGaussian",
    "SquaredError",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "squared_error": SquaredError,
    "shared_gaussian": SharedGaussian,
    "gaussian": Gaussian,
    "student_t": StudentT,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflatedNegativeBinomial,
}
"""By the name an option takes."""
