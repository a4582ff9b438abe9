"""Fine-tuning, with a small model of random weights: no others are at hand."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from dfa_utils.config import Config
from research import finetune

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (10, 8), "num_feat_extract_layers": 2}
SMALL = SIZES | CONVOLUTIONS | {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}


def encoder():
    torch.manual_seed(0)
    return Wav2Vec2Model(Wav2Vec2Config(**SMALL))


def test_the_command_trains_and_prints_both_splits(tiny_root, tmp_path, capsys):
    encoder().save_pretrained(tmp_path)
    command = [
        "--data",
        str(tiny_root),
        "--weights",
        str(tmp_path),
        "--epochs",
        "1",
        "--rate",
        "1e-3",
        "--device",
        "cpu",
    ]
    assert finetune.main(command) == 0
    said = capsys.readouterr().out
    assert "validation" in said
    assert "testing" in said


def test_gradients_reach_the_model_of_speech_and_level_does_not_count():
    model = finetune.SpeechModel(encoder(), Config()).train()
    waves = torch.randn(2, 8_000)
    model(waves).diff().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "masked_spec_embed" not in name)
    model.eval()
    torch.testing.assert_close(model(waves), model(0.1 * waves + 0.2), atol=1e-4, rtol=1e-4)
