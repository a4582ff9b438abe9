"""An evaluation in words: the tables as text, and the paragraph for a thesis; both from a table of scores alone."""

import pandas as pd

from dfa_utils.evaluation import by_condition, clusters_of, confusions, parts_of, summarise


def as_text(scores: pd.DataFrame, threshold: float) -> str:
    """The evaluation as text: figures of each split in percent, confusion matrices, errors by system and by speaker.

    Raises ValueError where no split holds both classes.
    """
    if not parts_of(scores):
        raise ValueError("no split holds both classes, so there is no error rate to tell; score real and fake clips")
    table = summarise(scores, threshold)
    lines = [f"threshold {threshold:.3f} (the checkpoint's own)"]
    for split, row in table.iterrows():
        lines += [
            f"{split:<11}{row.n_real:5.0f} real {row.n_fake:5.0f} fake  accuracy {row.accuracy:6.1%}  F1 {row.f1:6.1%}"
            f"  HTER {row.hter:6.1%}  EER {row.eer:6.1%} [{row.eer_low:.1%}, {row.eer_high:.1%}]  AUC {row.auc:.3f}",
            f"{'':<11}minDCF {row.min_dcf:.3f}  actDCF {row.act_dcf:.3f}  Cllr {row.cllr:.3f} bits, at best "
            f"{row.min_cllr:.3f}",
        ]
    for split, ((hit_real, alarm), (miss, hit_fake)) in confusions(scores, threshold).items():
        lines.append(f"\n{split:<11}called real  called fake")
        lines += [f"  real     {hit_real:>11}  {alarm:>11}", f"  fake     {miss:>11}  {hit_fake:>11}"]
    return "\n".join([*lines, *_conditions(scores, threshold)])


def paragraph(scores: pd.DataFrame, threshold: float, detector: str, data: str, split: str = "testing") -> str:
    """What to report: what was tested, on how much, at which threshold, how well, and how sure that is.

    `detector` and `data` are fingerprints. Raises KeyError for a split without both classes.
    """
    part = parts_of(scores)[split]
    row = summarise(part, threshold).loc[split]
    return (
        f"The detector (fingerprint {detector}) was evaluated on the {split} split of the data set with fingerprint "
        f"{data}: {row.n_real:.0f} real clips ({_named(part, 0, 'speaker')}) and {row.n_fake:.0f} fake ones "
        f"({_named(part, 1, 'system')}). With the threshold fixed on validation ({threshold:.3f}) the half total error "
        f"rate was {row.hter:.1%} (accuracy {row.accuracy:.1%}, F1 {row.f1:.1%}). The equal error rate was "
        f"{row.eer:.1%} (95 % interval [{row.eer_low:.1%}, {row.eer_high:.1%}], bootstrap by {_drawn(part)}), "
        f"minDCF {row.min_dcf:.3f}, actDCF {row.act_dcf:.3f} (costs of ASVspoof 5) and Cllr "
        f"{row.cllr:.3f} bits (at best {row.min_cllr:.3f})."
    )


def _named(part: pd.DataFrame, label: int, column: str) -> str:
    names = set(part.loc[part.label == label, column]) - {""} if column in part else set()
    return f"{len(names)} {column}{'s' * (len(names) > 1)}" if names else f"{column}s not named"


def _drawn(part: pd.DataFrame) -> str:
    """What the interval was drawn by."""
    clusters = clusters_of(part)
    return " and ".join(name for name in clusters if clusters[name].any()) or "clip"


def _conditions(scores: pd.DataFrame, threshold: float) -> list[str]:
    """Errors by system (fakes) and by speaker (reals) on the last split, the worst first."""
    split, part = list(parts_of(scores).items())[-1]
    lines = []
    for column, label in (("system", 1), ("speaker", 0)):
        some = part[part.label == label]
        table = by_condition(some, threshold, column) if column in part and (some[column] != "").any() else []
        if len(table):
            lines.append(f"\n{split}, {['reals', 'fakes'][label]} by {column}: clips, share called wrongly")
            lines += [
                f"  {r.Index:<30}{r.clips:5d}  {r.wrong:6.1%} [{r.low:.1%}, {r.high:.1%}]" for r in table.itertuples()
            ]
    return lines
