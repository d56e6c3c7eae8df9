"""Models of diffusers and torchaudio, and detectors of transformers: small, random, and with inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Cases = Iterator[tuple[str, Callable[[], Case]]]


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def _step(count: int = 1) -> torch.Tensor:
    return torch.tensor([7] * count)


_BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
_UNET = {**_BLOCKS, "sample_size": 16, "in_channels": 4, "out_channels": 4}
_CROSS = {
    **_UNET, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 16, "attention_head_dim": 4,
}  # fmt: skip
_DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "patch_size": 2}
_VAE = {
    "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
_IMAGE = (1, 3, 32, 32)

DIFFUSERS: dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "UNet2DModel": (
        {
            **_UNET,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
        },
        lambda: {"sample": _noise(1, 4, 16, 16), "timestep": _step()},
    ),
    "UNet2DConditionModel": (
        _CROSS,
        lambda: {"sample": _noise(1, 4, 16, 16), "timestep": _step(), "encoder_hidden_states": _noise(1, 5, 16)},
    ),
    "UNet3DConditionModel": (
        {
            **_CROSS,
            "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
            "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
            "norm_num_groups": 4,
        },
        lambda: {"sample": _noise(1, 4, 3, 16, 16), "timestep": _step(), "encoder_hidden_states": _noise(1, 5, 16)},
    ),
    "UNetMotionModel": (
        {
            **_UNET,
            "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
            "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
            "cross_attention_dim": 16,
            "num_attention_heads": 2,
            "motion_num_attention_heads": 2,
        },
        lambda: {"sample": _noise(1, 4, 3, 16, 16), "timestep": _step(), "encoder_hidden_states": _noise(3, 5, 16)},
    ),
    "ControlNetModel": (
        {
            **{
                name: value
                for name, value in _CROSS.items()
                if name not in ("out_channels", "sample_size", "up_block_types")
            },
            "conditioning_embedding_out_channels": (8, 16),
        },
        lambda: {
            "sample": _noise(1, 4, 16, 16),
            "timestep": _step(),
            "encoder_hidden_states": _noise(1, 5, 16),
            "controlnet_cond": _noise(1, 3, 32, 32),
        },
    ),
    "AutoencoderKL": (_VAE, lambda: {"sample": _noise(*_IMAGE)}),
    "AsymmetricAutoencoderKL": (
        {
            "down_block_out_channels": (8, 16),
            "up_block_out_channels": (8, 16),
            "norm_num_groups": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        lambda: {"sample": _noise(*_IMAGE), "mask": _noise(1, 1, 32, 32)},
    ),
    "AutoencoderTiny": (
        {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 2),
            "num_decoder_blocks": (2, 1),
        },
        lambda: {"sample": _noise(*_IMAGE)},
    ),
    "AutoencoderOobleck": (
        {
            "encoder_hidden_size": 12,
            "decoder_channels": 12,
            "decoder_input_channels": 6,
            "audio_channels": 2,
            "downsampling_ratios": [2, 4],
            "channel_multiples": [1, 2],
        },
        lambda: {"sample": _noise(1, 2, 64)},
    ),
    "VQModel": (
        {
            **{name: value for name, value in _VAE.items() if name != "latent_channels"},
            "latent_channels": 3,
            "num_vq_embeddings": 16,
        },
        lambda: {"sample": _noise(*_IMAGE)},
    ),
    "AutoencoderDC": (
        {
            "attention_head_dim": 4,
            "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "encoder_qkv_multiscales": ((), (5,)),
            "decoder_qkv_multiscales": ((), (5,)),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": [1, 1],
            "latent_channels": 4,
            "decoder_norm_types": "rms_norm",
            "decoder_act_fns": "silu",
        },
        lambda: {"sample": _noise(*_IMAGE)},
    ),
    "DiTTransformer2DModel": (
        {
            **_DIT,
            "in_channels": 4,
            "out_channels": 8,
            "num_embeds_ada_norm": 8,
            "norm_type": "ada_norm_zero",
            "norm_elementwise_affine": False,
        },
        lambda: {"hidden_states": _noise(1, 4, 8, 8), "timestep": _step(), "class_labels": _step()},
    ),
    "PixArtTransformer2DModel": (
        {
            **_DIT,
            "in_channels": 4,
            "out_channels": 8,
            "cross_attention_dim": 16,
            "caption_channels": 16,
            "use_additional_conditions": False,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "timestep": _step(),
            "encoder_hidden_states": _noise(1, 5, 16),
            "added_cond_kwargs": {"aspect_ratio": None, "resolution": None},
        },
    ),
    "SD3Transformer2DModel": (
        {
            "sample_size": 8,
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "caption_projection_dim": 32,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 16,
            "out_channels": 4,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 5, 32),
            "pooled_projections": _noise(1, 16),
            "timestep": _step(),
        },
    ),
    "FluxTransformer2DModel": (
        {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "axes_dims_rope": [4, 4, 8],
        },
        lambda: {
            "hidden_states": _noise(1, 16, 4),
            "encoder_hidden_states": _noise(1, 5, 32),
            "img_ids": _noise(16, 3),
            "txt_ids": _noise(5, 3),
            "pooled_projections": _noise(1, 32),
            "timestep": torch.tensor([1.0]),
        },
    ),
    "AuraFlowTransformer2DModel": (
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "caption_projection_dim": 32,
            "joint_attention_dim": 32,
            "out_channels": 4,
            "pos_embed_max_size": 256,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 5, 32),
            "timestep": torch.tensor([0.5]),
        },
    ),
    "CogVideoXTransformer3DModel": (
        {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 2,
            "text_embed_dim": 8,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 8,
            "patch_size": 2,
            "temporal_compression_ratio": 4,
            "max_text_seq_length": 8,
        },
        lambda: {"hidden_states": _noise(1, 2, 4, 8, 8), "encoder_hidden_states": _noise(1, 8, 8), "timestep": _step()},
    ),
    "LTXVideoTransformer3DModel": (
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "cross_attention_dim": 32,
            "num_layers": 1,
            "caption_channels": 16,
        },
        lambda: {
            "hidden_states": _noise(1, 8, 4),
            "encoder_hidden_states": _noise(1, 5, 16),
            "timestep": _step(),
            "encoder_attention_mask": torch.ones(1, 5, dtype=torch.bool),
            "num_frames": 2,
            "height": 2,
            "width": 2,
        },
    ),
    "SanaTransformer2DModel": (
        {
            "patch_size": 1,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 4,
            "num_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 4,
            "cross_attention_dim": 8,
            "caption_channels": 8,
            "sample_size": 8,
        },
        lambda: {"hidden_states": _noise(1, 4, 8, 8), "encoder_hidden_states": _noise(1, 5, 8), "timestep": _step()},
    ),
    "WanTransformer3DModel": (
        {
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": 4,
            "out_channels": 4,
            "text_dim": 16,
            "freq_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "rope_max_seq_len": 32,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 2, 8, 8),
            "timestep": _step(),
            "encoder_hidden_states": _noise(1, 5, 16),
        },
    ),
    "MochiTransformer3DModel": (
        {
            "patch_size": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "out_channels": None,
            "qk_norm": "rms_norm",
            "text_embed_dim": 16,
            "time_embed_dim": 4,
            "activation_fn": "swiglu",
            "max_sequence_length": 16,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 2, 8, 8),
            "encoder_hidden_states": _noise(1, 5, 16),
            "timestep": _step(),
            "encoder_attention_mask": torch.ones(1, 5, dtype=torch.bool),
        },
    ),
    "Lumina2Transformer2DModel": (
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 24,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "num_attention_heads": 3,
            "num_kv_heads": 1,
            "multiple_of": 2,
            "ffn_dim_multiplier": None,
            "scaling_factor": 1.0,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (128, 128, 128),
            "cap_feat_dim": 32,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 5, 32),
            "timestep": torch.rand(1),
            "encoder_attention_mask": torch.ones(1, 5, dtype=torch.bool),
        },
    ),
    "PriorTransformer": (
        {
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "num_layers": 2,
            "embedding_dim": 8,
            "num_embeddings": 7,
            "additional_embeddings": 4,
        },
        lambda: {
            "hidden_states": _noise(1, 8),
            "timestep": _step(),
            "proj_embedding": _noise(1, 8),
            "encoder_hidden_states": _noise(1, 7, 8),
        },
    ),
    "UVit2DModel": (
        {
            "hidden_size": 32,
            "cond_embed_dim": 32,
            "encoder_hidden_size": 32,
            "micro_cond_embed_dim": 48,
            "micro_cond_encode_dim": 8,
            "vocab_size": 32,
            "codebook_size": 32,
            "in_channels": 32,
            "block_out_channels": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 32,
            "block_num_heads": 1,
            "num_res_blocks": 1,
        },
        lambda: {
            "input_ids": torch.randint(0, 32, (1, 4, 4)),
            "encoder_hidden_states": _noise(1, 5, 32),
            "pooled_text_emb": _noise(1, 32),
            "micro_conds": _noise(1, 6),
        },
    ),
    "T2IAdapter": (
        {"in_channels": 3, "channels": [16, 32], "num_res_blocks": 1, "downscale_factor": 2},
        lambda: {"x": _noise(*_IMAGE)},
    ),
}


def diffusers_models() -> Cases:
    for name in DIFFUSERS:
        yield name, lambda name=name: _diffusers(name)


def _diffusers(name: str) -> Case:
    import diffusers

    config, inputs = DIFFUSERS[name]
    return getattr(diffusers, name)(**config), (), inputs()


def torchaudio_models() -> Cases:
    from torchaudio import models

    lengths = torch.tensor([60, 40])
    tokens = torch.randint(0, 10, (2, 8))
    wave = {"extractor_conv_layer_config": [(16, 10, 5), (16, 8, 4)], "encoder_embed_dim": 32, "encoder_num_layers": 2}
    wave |= {"encoder_num_heads": 4, "encoder_ff_interm_features": 48, "encoder_pos_conv_kernel": 16}
    wave |= {"encoder_pos_conv_groups": 4, "extractor_mode": "group_norm", "extractor_conv_bias": False}
    wave |= {"encoder_projection_dropout": 0.1, "encoder_attention_dropout": 0.1, "encoder_ff_interm_dropout": 0.1}
    wave |= {"encoder_dropout": 0.1, "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0, "aux_num_out": 8}
    tacotron = {"encoder_embedding_dim": 32, "decoder_rnn_dim": 32, "attention_rnn_dim": 32, "symbol_embedding_dim": 32}
    cases: dict[str, Callable[[], Case]] = {
        "Conformer": lambda: (models.Conformer(16, 4, 32, 2, 5), (_noise(2, 60, 16), lengths), {}),
        "ConvTasNet": lambda: (
            models.ConvTasNet(
                enc_num_feats=32, msk_num_feats=16, msk_num_hidden_feats=32, msk_num_layers=2, msk_num_stacks=1
            ),
            (_noise(2, 1, 800),),
            {},
        ),
        "DeepSpeech": lambda: (models.DeepSpeech(n_feature=16, n_hidden=32, n_class=10), (_noise(2, 1, 20, 16),), {}),
        "Emformer": lambda: (
            models.Emformer(16, 4, 32, 2, 4, right_context_length=1),
            (_noise(2, 61, 16), lengths),
            {},
        ),
        "HDemucs": lambda: (
            models.HDemucs(["drums", "bass"], channels=8, nfft=256, depth=3),
            (_noise(1, 2, 4096),),
            {},
        ),
        "Tacotron2": lambda: (
            models.Tacotron2(**tacotron),
            (tokens, torch.tensor([8, 8]), _noise(2, 80, 12), torch.tensor([12, 10])),
            {},
        ),
        "Wav2Letter": lambda: (
            models.Wav2Letter(num_classes=10, input_type="mfcc", num_features=13),
            (_noise(1, 13, 60),),
            {},
        ),
        "WaveRNN": lambda: (
            models.WaveRNN([2, 3], 16, 6, n_res_block=1, n_rnn=16, n_fc=16, n_hidden=16, n_output=16, n_freq=16),
            (_noise(1, 1, 36), _noise(1, 1, 16, 10)),
            {},
        ),
        "wav2vec2_model": lambda: (models.wav2vec2_model(**wave), (_noise(2, 4000),), {}),
        "squim_objective_base": lambda: (models.squim_objective_base(), (_noise(1, 8000),), {}),
        "Wav2Vec2 large features": lambda: (
            models.wav2vec2_model(
                **{
                    **wave,
                    "extractor_mode": "layer_norm",
                    "extractor_conv_bias": True,
                    "encoder_layer_norm_first": True,
                }
            ),
            (_noise(2, 4000), torch.tensor([4000, 3000])),
            {},
        ),
    }
    yield from cases.items()


def detectors() -> Cases:
    from transformers.models.auto import modeling_auto

    for name, kind in modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES.items():
        yield f"{name} (transformers)", lambda name=name, kind=kind: _detector(name, str(kind))


_OWN_BACKBONES = ("d_fine", "deimv2", "lw_detr", "pp_", "rf_detr", "rt_detr")
_SIDES = (64, 256, 640)


def _detector(name: str, kind: str) -> Case:
    """Builds a detector, for the smallest image in which it finds as many places as it has queries."""
    import transformers

    from benchmarks._architectures import shrunk

    config = transformers.CONFIG_MAPPING[name]()
    for key in ("use_timm_backbone", "use_pretrained_backbone"):
        if hasattr(config, key):
            setattr(config, key, False)
    if hasattr(config, "backbone_config") and not name.startswith(_OWN_BACKBONES):
        config.backbone = None
        config.backbone_config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
    model = getattr(transformers, kind)(config if name.startswith(_OWN_BACKBONES) else shrunk(config))
    for side in _SIDES:
        inputs = {"pixel_values": torch.randn(1, 3, side, side)}
        try:
            with torch.no_grad():
                model.train()(**inputs)  # in which normalisation needs more values
        except (RuntimeError, ValueError, IndexError):
            continue
        return model, (), inputs
    raise ValueError("it runs with none of these images")
