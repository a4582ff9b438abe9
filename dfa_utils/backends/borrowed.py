"""Back ends that others designed, and often trained: from timm, and from transformers.

`Config.borrowed` says where their weights lie: "" = nowhere, they are drawn at random; else a folder or a .safetensors
file, for transformers also a name on the Hugging Face hub that was fetched before. Nothing is fetched from here: a
stranger's checkpoint must not reach into the network. What `Config.frozen_layers` keeps as it was is not stored in a
checkpoint: there stands where it came from, and its hash.
"""

import hashlib
from pathlib import Path

import torch
from torch import nn

from dfa_utils.config import Config

LEAST = 32  # bands and frames, below which a vision model that halves its picture five times has nothing left
SPEECH = ("hubert", "wav2vec2", "wavlm")  # models of speech that learnt without labels, from the waveform


class Timm(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), by a vision model of timm: "timm:NAME".

    Any number of frames. Raises ImportError without timm, and ValueError for a name that timm does not have, and where
    `borrowed` is no file or folder with weights for it.
    """

    def __init__(self, config: Config, borrow: bool = True):
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            raise _missing("timm", config.model) from error
        name = config.model.removeprefix("timm:")
        if not timm.is_model(name):
            like = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise ValueError(f"timm has no model called {name!r}; like it: {like}")
        options = {"in_chans": 1, "num_classes": 2, "drop_rate": config.dropout}
        if borrow and config.borrowed:
            options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": _weights_of(config.borrowed, name)}}
        try:  # a vision transformer learns a vector for each place; it can stretch them to other sizes
            frames = 1 + config.clip_samples // config.hop_length
            flexible = {"img_size": (config.n_mels, frames), "dynamic_img_size": True, "dynamic_img_pad": True}
            self.network = timm.create_model(name, **options, **flexible)
        except TypeError:  # the others take any size as they are
            self.network = timm.create_model(name, **options)
        if config.recompute:
            self.network.set_grad_checkpointing()

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        bands, frames = spectrogram.shape[2:]
        return self.network(nn.functional.pad(spectrogram, (0, max(0, LEAST - frames), 0, max(0, LEAST - bands))))

    def body(self) -> list[nn.Module]:
        """The layers from the input on, as timm groups them for fine-tuning; the head is not among them."""
        head = self.network.get_classifier()
        return [part for name, part in self.network.named_children() if part is not head and list(part.parameters())]


class SpectrogramTransformer(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), by the Audio Spectrogram Transformer.

    Gong, Chung, Glass 2021, in transformers, with the weights that `borrowed` names. The places of the patches are
    cut to the length of a clip, as in the paper; other lengths are cut or filled up to it. Raises ValueError where the
    config has another number of bands than the weights.
    """

    def __init__(self, config: Config, borrow: bool = True):
        super().__init__()
        self.network = _pretrained(config, borrow)
        theirs = self.network.config
        if theirs.num_mel_bins != config.n_mels:
            raise ValueError(f"{config.borrowed} was trained on {theirs.num_mel_bins} bands: set n_mels to that")
        self.frames = min(1 + config.clip_samples // config.hop_length, theirs.max_length)
        self._cut_places(theirs)
        self.dropout, self.head = nn.Dropout(config.dropout), nn.Linear(theirs.hidden_size, 2)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(spectrogram, (0, self.frames - spectrogram.shape[3]))[:, 0].transpose(1, 2)
        return self.head(self.dropout(self.network(x / 2).pooler_output))  # its own mean is 0, its deviation 0.5

    def body(self) -> list[nn.Module]:
        """The embedding of the patches, and the layers of attention."""
        return [self.network.embeddings, *self.network.encoder.layer]

    def _cut_places(self, theirs) -> None:
        """Keep the learnt places of as many columns of patches as a clip has; the first two are no patches."""
        rows = (theirs.num_mel_bins - theirs.patch_size) // theirs.frequency_stride + 1
        columns = (self.frames - theirs.patch_size) // theirs.time_stride + 1
        places = self.network.embeddings.position_embeddings.detach()  # [1, 2 + rows * all columns, hidden_size]
        grid = places[:, 2:].unflatten(1, (rows, -1))[:, :, :columns].flatten(1, 2)
        self.network.embeddings.position_embeddings = nn.Parameter(torch.cat([places[:, :2], grid], dim=1))


class Speech(nn.Module):
    """Waveform [B, T] at 16 kHz -> logits [B, 2] (real, fake), by wav2vec 2.0, HuBERT or WavLM, from transformers.

    The hidden states of all layers are added with weights that are learnt, averaged over time, and judged by one
    linear layer (as in SUPERB: Yang et al. 2021). Raises ValueError for another sample rate, and without `borrowed`.
    """

    def __init__(self, config: Config, borrow: bool = True):
        super().__init__()
        if config.sample_rate != 16_000:
            raise ValueError(f"{config.model} was trained at 16,000 Hz; set sample_rate to that")
        self.network = _pretrained(config, borrow)
        theirs = self.network.config
        theirs.apply_spec_augment, theirs.layerdrop = False, 0.0  # all layers answer, in training too
        self.network.masked_spec_embed = None  # a weight for what is left out here
        self.weights = nn.Parameter(torch.zeros(1 + theirs.num_hidden_layers))
        self.dropout, self.head = nn.Dropout(config.dropout), nn.Linear(theirs.hidden_size, 2)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        states = torch.stack(self.network(waveform, output_hidden_states=True).hidden_states)  # [layers, B, frames, C]
        x = (self.weights.softmax(dim=0)[:, None, None] * states.mean(dim=2)).sum(dim=0)  # [B, C]
        return self.head(self.dropout(x))

    def body(self) -> list[nn.Module]:
        """The convolutions that read the waveform, with what follows them, and the layers of attention."""
        network = self.network
        positions = [network.encoder.pos_conv_embed, network.encoder.layer_norm]
        return [
            nn.ModuleList([network.feature_extractor, network.feature_projection, *positions]),
            *network.encoder.layers,
        ]


def freeze(back_end: nn.Module, layers: int) -> None:
    """Let the first `layers` parts of the body keep their weights. Raises ValueError for a back end without a body."""
    if layers and not hasattr(back_end, "body"):
        raise ValueError(f"{type(back_end).__name__} borrows nothing; leave frozen_layers at 0")
    for part in back_end.body()[:layers] if layers else []:
        part.requires_grad_(False)


def frozen_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The borrowed weights of a detector that training does not change, by name; none of a back end of our own."""
    if not getattr(model, "config", None) or not getattr(model.config, "frozen_layers", 0):
        return {}
    return {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}


def hash_of(tensors: dict[str, torch.Tensor]) -> str:
    """16 hex digits of the values, whatever device they lie on."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def groups_by_layer(model: nn.Module, rate: float, decay: float) -> list[dict]:
    """Parameter groups for an optimizer: each layer of the body learns `decay` times as fast as the one after it.

    Lower layers of a borrowed model know more that is general (Howard and Ruder 2018). Without a body: one group.
    """
    body = model.back_end.body() if hasattr(model.back_end, "body") else []
    rates = {id(p): rate * decay ** (len(body) - i) for i, part in enumerate(body) for p in part.parameters()}
    groups: dict[float, list] = {}
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        groups.setdefault(rates.get(id(parameter), rate), []).append(parameter)
    return [{"params": found, "lr": each} for each, found in sorted(groups.items(), key=lambda item: item[0])]


def _pretrained(config: Config, borrow: bool) -> nn.Module:
    """The model that `config.borrowed` names; without `borrow` with random weights, which a checkpoint replaces."""
    if not config.borrowed:
        raise ValueError(
            f"{config.model} needs the weights of somebody who trained it: set borrowed to a folder that "
            "save_pretrained wrote, or to a name on the Hugging Face hub"
        )
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise _missing("transformers", config.model) from error
    try:
        if borrow:
            network = transformers.AutoModel.from_pretrained(
                config.borrowed, use_safetensors=True, local_files_only=True
            )
        else:
            theirs = transformers.AutoConfig.from_pretrained(config.borrowed, local_files_only=True)
            network = transformers.AutoModel.from_config(theirs)
    except OSError as error:
        raise ValueError(
            f"{config.borrowed}: no weights there ({_first_line(error)}). Give a folder, or with a network fetch them: "
            f"hf download {config.borrowed}"
        ) from error
    if config.recompute:
        network.gradient_checkpointing_enable()
    return network


def _weights_of(borrowed: str, name: str) -> str:
    """The file with a timm model's weights."""
    path = Path(borrowed)
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.exists():
        raise ValueError(
            f"{borrowed}: no file of weights (.safetensors) there; with a network fetch them: "
            f"hf download timm/{name}.TAG model.safetensors --local-dir FOLDER (the model's page names the tags)"
        )
    return str(file)


def _missing(package: str, model: str) -> ImportError:
    return ImportError(f"the model {model!r} needs {package}: pip install {package}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
