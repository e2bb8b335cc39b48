"""How well scores tell what will happen: log-loss, normalised entropy, AUC, pair accuracy. Pure functions.

Shape letters: N predictions, P pairs.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["auc", "log_loss", "normalised_entropy", "num_concordant", "pair_accuracy", "per_user_auc"]

_SMALLEST = 1e-12


def log_loss(probabilities: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """-y log p - (1 - y) log(1 - p) for each prediction; y in [0, 1]. For p = 1/2 it is log 2 whatever y is.

    Probabilities are kept 1e-12 away from 0 and 1, so that a certain error costs 27.6 and not infinity.
    """
    p = np.clip(probabilities.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    losses: Float[np.ndarray, " N"] = -(targets * np.log(p) + (1 - targets) * np.log1p(-p))
    return losses


def normalised_entropy(
    probabilities: Float[np.ndarray, " N"], targets: Float[np.ndarray, " N"], base_rate: float
) -> float:
    """Mean log-loss divided by that of always answering the base rate of the training part; below 1 is better.

    Worked: targets 1, 0, predicted .9, .1, base rate .5: 0.1054 / 0.6931 = 0.152. The divisor is the *entropy of the
    base rate*, -b log b - (1 - b) log(1 - b).

    Returns:  NaN for no predictions, or where the base rate is 0 or 1: then there was nothing to learn.
    Source:   He et al. 2014, section 3.
    """
    if len(targets) == 0 or not 0 < base_rate < 1:
        return float("nan")
    entropy = -(base_rate * np.log(base_rate) + (1 - base_rate) * np.log(1 - base_rate))
    return float(log_loss(probabilities, targets).mean() / entropy)


def num_concordant(scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]) -> float:
    """The pairs of a positive and a negative that are ordered rightly; a tied pair counts half.

    Sum of the positives' ranks, ties sharing their mean rank, minus the ranks they have among themselves.
    """
    num_positive = int(positive.sum())
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float(mean_rank[place][positive].sum() - num_positive * (num_positive + 1) / 2)


def auc(scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]) -> float:
    """The chance that a random positive is scored above a random negative, a tie counting half.

    Scores 3, 2, 1 with the second positive: it beats one of two negatives, so 1/2. NaN without both kinds.
    """
    num_pairs = int(positive.sum()) * int((~positive).sum())
    return num_concordant(scores, positive) / num_pairs if num_pairs else float("nan")


def per_user_auc(
    scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"], users: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " U"], Int[np.ndarray, " U"]]:
    """The AUC within each user who has both kinds.

    Returns:  (U,) values, and the (U,) users they belong to.
    """
    order = np.lexsort((scores, users))
    user, score, is_positive = users[order], scores[order], positive[order]
    is_new_user = np.ones(len(order), bool)
    is_new_user[1:] = user[1:] != user[:-1]
    is_new_score = is_new_user.copy()
    is_new_score[1:] |= score[1:] != score[:-1]  # -inf equals -inf, their difference is no number
    starts = np.flatnonzero(is_new_score)
    # Ties of one user share the mean of the places that they take.
    sizes = np.diff(np.append(starts, len(order)))
    owner = np.cumsum(is_new_user) - 1
    first_place = np.flatnonzero(is_new_user)[owner]
    rank = np.repeat(starts + (sizes + 1) / 2, sizes) - first_place
    num_users = int(is_new_user.sum())
    num_positive = np.bincount(owner[is_positive], minlength=num_users)
    num_pairs = num_positive * (np.bincount(owner, minlength=num_users) - num_positive)
    rank_sums = np.bincount(owner[is_positive], rank[is_positive], minlength=num_users)
    has_both = num_pairs > 0
    concordant = (rank_sums - num_positive * (num_positive + 1) / 2)[has_both]
    return concordant / num_pairs[has_both], user[is_new_user][has_both]


def pair_accuracy(
    better: Float[np.ndarray, " P"], worse: Float[np.ndarray, " P"], weights: Float[np.ndarray, " P"]
) -> float:
    """The weighted share of pairs whose better one is scored higher; a tie counts half.

    Scores (2, 1), (1, 1), (0, 1) with weights 1, 1, 2: (1 + 1/2 + 0) / 4 = 0.375. NaN for no pairs.
    """
    total = weights.sum()
    if total == 0:
        return float("nan")
    rightly = (better > worse) + 0.5 * (better == worse)
    return float((weights * rightly).sum() / total)
