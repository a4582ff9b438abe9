"""Several detectors that judge together: some lead, the others advise."""

from collections.abc import Sequence

import torch
from torch import nn

from dfa_utils.backends.statistics import Statistics
from dfa_utils.config import VIEW
from dfa_utils.features import LogMel, split_batch, standardise

ADVICE = 2.0  # how far the advisers can move the logit at most
SAME_WINDOWS = ("sample_rate", "clip_seconds", "hop_seconds")  # settings that the members must agree in
SAME_SPECTROGRAM = (*VIEW, "scale", "top_db", "db_scale", "centre")  # settings that make one spectrogram equal another


class Ensemble(nn.Module):
    """Waveforms [B, T] -> logits [B, 2] (real, fake), from several `SpectrogramDetector`s of one rate and window.

    The logit of P(fake) is the mean of the leaders', plus ADVICE times the hyperbolic tangent of the advisers' mean,
    which decides where the leaders are undecided and cannot outvote them elsewhere. `leads` [members] says who leads
    (None: all, and it is the mean of all). Members share the work on what they see alike. `config` is the first
    member's. Raises ValueError for members that cut recordings into other windows, and where none leads.
    """

    def __init__(self, members: Sequence[nn.Module], leads: Sequence[bool] | None = None):
        super().__init__()
        self.members, self.config = nn.ModuleList(members), members[0].config
        self.register_buffer("leads", torch.tensor([True] * len(members) if leads is None else leads))
        if len(self.leads) != len(members) or not self.leads.any():
            raise ValueError(f"of {len(members)} members at least one must lead, got {self.leads.tolist()}")
        if len({tuple(getattr(member.config, name) for name in SAME_WINDOWS) for member in members}) > 1:
            raise ValueError(f"members of an ensemble must agree in {', '.join(SAME_WINDOWS)}")

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.ask(piece) for piece in split_batch(waveform)])

    def ask(self, waveform: torch.Tensor) -> torch.Tensor:
        """What the whole gives, for all waveforms at once."""
        seen: dict[tuple, torch.Tensor] = {}
        logits = torch.cat([_ask(member, waveform, seen) for member in self.members], dim=1)  # [B, members]
        logit = logits[:, self.leads].mean(dim=1)
        if not self.leads.all():
            logit = logit + ADVICE * logits[:, ~self.leads].mean(dim=1).tanh()
        return torch.stack([-logit, logit], dim=1) / 2  # [B, 2]


def logit_of_fake(logits: torch.Tensor) -> torch.Tensor:
    """Logits [B, 2] (real, fake) -> that of P(fake) [B, 1]. Not by `diff`, which ONNX does not know."""
    return logits[:, 1:] - logits[:, :1]


def _ask(member: nn.Module, waveform: torch.Tensor, seen: dict[tuple, torch.Tensor]) -> torch.Tensor:
    """A member's logit of P(fake) [B, 1]; what it shares with members to come is left in `seen`."""
    keys = [tuple(getattr(view, name) for name in SAME_SPECTROGRAM) for view in member.config.spectrograms]
    for key, front_end in zip(keys, member.front_ends, strict=True):
        if key not in seen:
            db = front_end.in_bands(_spectra(front_end, waveform, seen))
            seen[key] = standardise(db, member.config.db_scale, member.config.centre)
    views = [seen[key] for key in keys]
    if isinstance(member.back_end, Statistics) and not member.training:
        if (whole := tuple(keys)) not in seen:
            seen[whole] = member.back_end.measure(*views)
        return logit_of_fake(member.back_end.judge(seen[whole]))
    return logit_of_fake(member.judge(views))


def _spectra(front_end: LogMel, waveform: torch.Tensor, seen: dict[tuple, torch.Tensor]) -> torch.Tensor:
    """The front end's power spectra of the waveforms, from `seen` if they are there."""
    key = front_end.config.n_fft, front_end.config.hop_length
    if key not in seen:
        seen[key] = front_end.spectra(waveform)
    return seen[key]
