"""Fine-tune a model of speech that learnt without labels: python -m research.finetune --data ROOT --weights FOLDER.

FOLDER holds a wav2vec 2.0, HuBERT or WavLM as `transformers` saves it (`hf download facebook/wav2vec2-xls-r-300m
--local-dir FOLDER`). One linear layer on the mean of its last states gives the logits. The weights of the epoch with
the lowest validation loss are kept, and scored on validation and testing. This was only ever run with small models of
random weights, so there are no figures of it.
"""

import argparse
import sys

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from dfa_utils import metrics
from dfa_utils.augment import CHANNELS, Augmentation
from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, make_loader, scan, set_epoch
from dfa_utils.evaluation import score_clips, summarise
from dfa_utils.inference import Detector
from dfa_utils.support import progress_bar


class SpeechModel(nn.Module):
    """Waveform [B, T] at 16 kHz -> logits [B, 2] (real, fake), from the mean of the last states of a speech model."""

    def __init__(self, encoder: nn.Module, config: Config):
        super().__init__()
        self.encoder, self.config = encoder, config
        self.head = nn.Linear(encoder.config.hidden_size, 2)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        centred = waveform - waveform.mean(dim=1, keepdim=True)
        states = self.encoder(centred / centred.std(dim=1, keepdim=True).clamp_min(1e-6)).last_hidden_state  # [B, F, C]
        return self.head(states.mean(dim=1))


def main(arguments=None) -> int:
    """Train, keep the best epoch, and print the table of both splits."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data)
    config = Config(batch_size=options.batch, epochs=options.epochs, augment=CHANNELS)
    model = SpeechModel(AutoModel.from_pretrained(options.weights), config)
    model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    threshold = fine_tune(model, manifest, options.rate, options.steps)
    scores = score_clips(Detector(model, {}), manifest[manifest.split != "training"])
    print(summarise(scores, threshold)[["eer", "eer_low", "eer_high", "hter"]].to_string(float_format="{:.3f}".format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.finetune", description="Fine-tune a model of speech.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument("--weights", required=True, metavar="FOLDER", help="a model of speech, saved by transformers")
    top.add_argument("--epochs", type=int, default=5)
    top.add_argument("--rate", type=float, default=1e-5, help="learning rate")
    top.add_argument("--batch", type=int, default=4, help="clips that are computed at once")
    top.add_argument("--steps", type=int, default=8, help="batches whose gradients make one step")
    top.add_argument("--device", help="such as cuda or cpu (default: a GPU if there is one)")
    return top


def fine_tune(model: SpeechModel, manifest, rate: float, steps: int) -> float:
    """Train on training, keep the weights of the best epoch on validation, and return the threshold of its EER."""
    config, device, best = model.config, next(model.parameters()).device, float("inf")
    loader = make_loader(ClipDataset(manifest[manifest.split == "training"], config, train=True))
    validation = manifest[manifest.split == "validation"]
    augment, generator = Augmentation(config.augment, config.sample_rate), torch.Generator(device).manual_seed(0)
    optimizer, threshold, weights = torch.optim.AdamW(model.parameters(), rate), 0.5, {}
    for epoch in progress_bar(range(config.epochs), "fine-tuning"):
        set_epoch(loader, epoch)
        model.train()
        for i, (waveforms, labels) in enumerate(loader, start=1):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(augment(waveforms.to(device), generator)).float()
            (cross_entropy(logits, labels.to(device)) / steps).backward()
            if i % steps == 0 or i == len(loader):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        scored = score_clips(Detector(model, {}), validation)
        loss = metrics.log_loss(scored.label, scored.score)
        if loss < best:
            best, threshold = loss, metrics.eer(scored.label, scored.score)[1]
            weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    return threshold


if __name__ == "__main__":
    sys.exit(main())
