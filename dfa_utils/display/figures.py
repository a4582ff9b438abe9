"""The figures of an evaluation."""

import pandas as pd

from dfa_utils.display.theme import block, column, paragraph

WORDS = """\
EER, the equal error rate: the share of errors at the threshold where as many reals are called fake as fakes \
are called real; the interval says how far it might lie from the truth by chance. HTER: the mean of both kinds of \
errors at the threshold above. AUC: the chance that a fake has a higher score than a real clip. Cllr: what the scores \
cost as probabilities, in bits; 0 is perfect, 1 is knowing nothing; "at best": after the best calibration."""


def table_of(figures: pd.DataFrame) -> pd.DataFrame:
    """What `evaluation.summarise` gives, as text: one row a split, rates in percent."""
    rows = {
        split: {
            "real": f"{row.n_real:.0f}",
            "fake": f"{row.n_fake:.0f}",
            "EER": f"{row.eer:.1%}",
            "95 % interval": f"[{row.eer_low:.1%}, {row.eer_high:.1%}]",
            "accuracy": f"{row.accuracy:.1%}",
            "F1": f"{row.f1:.1%}",
            "HTER": f"{row.hter:.1%}",
            "AUC": f"{row.auc:.3f}",
            "Cllr (at best)": f"{row.cllr:.3f} ({row.min_cllr:.3f})",
        }
        for split, row in figures.iterrows()
    }
    return pd.DataFrame(rows).T


def figures_html(figures: pd.DataFrame, threshold: float) -> str:
    """The table of `evaluation.summarise` as HTML, and what its figures mean."""
    words = f"Accuracy, F1 and HTER at the threshold {threshold:.3f}."
    return block(
        paragraph(words),
        column(table_of(figures)),
        f"<details><summary>What they mean</summary>{paragraph(WORDS)}</details>",
    )
