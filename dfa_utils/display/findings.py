"""What an audit of a data set found."""

from dfa_utils.display.theme import block, heading, numbered, paragraph, table


def findings_html(findings) -> str:
    """`datasets.audit.Findings` as HTML: what to mend, in words, the first thing first; then the figures behind it."""
    verdicts = findings.verdicts
    words = f"{len(verdicts)} to mend, the first thing first:" if verdicts else "No trap found."
    probes = findings.probes.rename(columns={"low": "training, low", "high": "training, high"})
    return block(
        paragraph(f"{len(findings.clips):,} clips. {words}"),
        numbered(verdicts) if verdicts else "",
        heading("Files that cannot be used, or sound wrong"),
        _frame(findings.problems, str),
        heading("File formats"),
        _frame(findings.formats, str),
        heading("Does the number alone tell real from fake? (AUC: 0.5 = no; with the 95 % interval on training)"),
        _frame(probes, "{:.2f}".format),
    )


def _frame(frame, show) -> str:
    """A DataFrame as a table; `show` makes text of a value."""
    head = [" ".join(map(str, name)) if isinstance(name, tuple) else name for name in frame.columns]
    rows = [
        [", ".join(map(str, name)) if isinstance(name, tuple) else name, *map(show, values)]
        for name, values in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return table(["", *head], rows)
