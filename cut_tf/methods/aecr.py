"""AECR-Net's training: L1 and contrastive regularization, from pairs (Wu et al., CVPR 2021)."""

from __future__ import annotations

from cut_tf.common.errors import InputError
from cut_tf.methods.regression import Paired
from cut_tf.settings import Settings


class AECR(Paired):
    """L = mean |J - phi(I)| + contrastive_weight * contrastive regularization (eq. 4-5; the paper's weight is 0.1).

    It is `Paired` with the regularization that flags can add to every method, and refuses to run without it. Any
    generator may be used; that of the paper is `--generator=aecrnet`.

    Raises:
      InputError: if --contrastive_weight is 0.
    """

    progress_terms = ("loss/generator", "loss/l1", "loss/contrastive")

    def __init__(self, settings: Settings) -> None:
        if not settings.contrastive.contrastive_weight:
            raise InputError("--contrastive_weight must be more than zero with --method=aecr (0.1 in the paper; "
                             "without it use --method=paired), found "
                             f"{settings.contrastive.contrastive_weight}")
        super().__init__(settings)
