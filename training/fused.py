"""The network's layers with hand-written gradients, for fast training on a CPU.

The same mathematics as ``model.network``, whose modules keep the weights: each residual layer here
is one autograd function that makes fewer passes over memory and keeps every activation in the
compute dtype. With bfloat16 on a CPU with AMX a step takes about two thirds of the time of
autocast. Tests hold outputs and gradients to ``model.network``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from model.config import SILENCE, ModelConfig
from model.network import Decoder, DecoderLayer, Encoder, EncoderLayer


class EncoderLayerFunction(Function):
    """``EncoderLayer.forward``: ReLU, three taps, ReLU, 1x1, residual."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        taps: Tensor,
        taps_bias: Tensor,
        mix: Tensor,
        mix_bias: Tensor,
        dilation: int,
        centre: int,
    ) -> Tensor:
        rectified = torch.relu(hidden)
        oldest, older, mixed = (rectified @ taps.t()).chunk(3, -1)
        mixed += taps_bias
        _add_later(mixed, older, dilation)
        _add_later(mixed, oldest, 2 * dilation)
        mixed = torch.relu(mixed)
        out = torch.addmm(mix_bias, mixed.flatten(0, 1), mix.t()).view_as(hidden)
        _add_later(out, hidden, centre)
        ctx.save_for_backward(rectified, mixed, taps, mix)
        ctx.dilation, ctx.centre = dilation, centre
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grad,) = gradients
        rectified, mixed, taps, mix = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_mix = rows.t() @ mixed.flatten(0, 1)
        grad_mix_bias = rows.sum(0)
        grad_mixed = _relu_backward((rows @ mix).view_as(mixed), mixed)
        grad_taps_bias = grad_mixed.sum((0, 1))
        by_tap = _earlier(grad_mixed, (2 * ctx.dilation, ctx.dilation, 0)).flatten(0, 1)
        grad_taps = by_tap.t() @ rectified.flatten(0, 1)
        grad_hidden = _relu_backward((by_tap @ taps).view_as(rectified), rectified)
        _add_earlier(grad_hidden, grad, ctx.centre)
        return grad_hidden, grad_taps, grad_taps_bias, grad_mix, grad_mix_bias, None, None


class DecoderLayerFunction(Function):
    """``DecoderLayer.forward``, adding to the running skip sum in place."""

    @staticmethod
    def forward(
        ctx: Any,
        signal: Tensor,
        skip: Tensor,
        frame: Tensor,
        taps: Tensor,
        output: Tensor,
        output_bias: Tensor,
        dilation: int,
    ) -> tuple[Tensor, Tensor]:
        width = signal.shape[-1]
        past, gate = (signal @ taps.t()).chunk(2, -1)
        _add_later(gate, past, dilation)
        gate.unflatten(1, (frame.shape[1], -1)).add_(frame[:, :, None])
        filtered = torch.tanh(gate[..., :width])
        opened = torch.sigmoid(gate[..., width:])
        gated = filtered * opened
        out = torch.addmm(output_bias, gated.flatten(0, 1), output.t())
        out = out.view(*signal.shape[:2], -1)
        skip += out[..., width:]
        ctx.mark_dirty(skip)
        ctx.save_for_backward(signal, filtered, opened, gated, taps, output)
        ctx.dilation, ctx.frames = dilation, frame.shape[1]
        return signal + out[..., :width], skip

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        grad_signal, grad_skip = gradients
        signal, filtered, opened, gated, taps, output = ctx.saved_tensors
        rows = torch.cat([grad_signal, grad_skip], -1).flatten(0, 1)
        grad_output = rows.t() @ gated.flatten(0, 1)
        grad_output_bias = rows.sum(0)
        grad_gated = (rows @ output).view_as(gated)
        grad_gate = torch.cat(
            [
                torch.ops.aten.tanh_backward(grad_gated * opened, filtered),
                torch.ops.aten.sigmoid_backward(grad_gated * filtered, opened),
            ],
            -1,
        )
        grad_frame = grad_gate.unflatten(1, (ctx.frames, -1)).sum(2)
        by_tap = _earlier(grad_gate, (ctx.dilation, 0)).flatten(0, 1)
        grad_taps = by_tap.t() @ signal.flatten(0, 1)
        through = torch.addmm(grad_signal.reshape(-1, signal.shape[-1]), by_tap, taps)
        return (
            through.view_as(signal),
            grad_skip,
            grad_frame,
            grad_taps,
            grad_output,
            grad_output_bias,
            None,
        )


def encode(encoder: Encoder, levels: Tensor, dtype: torch.dtype) -> Tensor:
    """``encoder(levels)`` with activations in ``dtype``; returns float32 latents."""
    lookahead = encoder.config.encoder.lookahead_samples
    hidden = encoder.front(F.pad(levels, (0, lookahead))[..., None]).to(dtype)
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        hidden = EncoderLayerFunction.apply(  # type: ignore[no-untyped-call]
            hidden,
            layer.dilated.weight.flatten(0, 1).to(dtype),
            layer.dilated.bias.to(dtype),
            layer.mix.weight.to(dtype),
            layer.mix.bias.to(dtype),
            layer.dilated.dilation,
            layer.centre,
        )
    heard = hidden[:, lookahead:].unflatten(1, (-1, encoder.config.hop_samples))
    latents: Tensor = encoder.latent(heard.float().mean(2))
    return latents


def decode(config: ModelConfig, decoder: Decoder, codes: Tensor, latents: Tensor) -> Tensor:
    """``decoder(codes, latents)`` with activations in the dtype of ``latents``."""
    dtype = latents.dtype
    known = F.pad(codes, (1, 0), value=SILENCE)[:, :-1]
    signal = F.embedding(known, decoder.embedding.weight.to(dtype))
    skip = torch.zeros(*codes.shape, config.decoder.skip_channels, dtype=dtype)
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        signal, skip = DecoderLayerFunction.apply(  # type: ignore[no-untyped-call]
            signal,
            skip,
            F.linear(latents, layer.condition.weight.to(dtype), layer.current.bias.to(dtype)),
            torch.cat([layer.past.weight, layer.current.weight]).to(dtype),
            layer.output.weight.to(dtype),
            layer.output.bias.to(dtype),
            layer.dilation,
        )
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        logits: Tensor = decoder.head(skip, latents)
    return logits


def best_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware, else float32."""
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def _add_later(target: Tensor, signal: Tensor, samples: int) -> None:
    """Add ``signal``, moved later by ``samples``, to ``target`` in place."""
    if samples < target.shape[1]:
        target[:, samples:] += signal[:, : signal.shape[1] - samples]


def _add_earlier(target: Tensor, signal: Tensor, samples: int) -> None:
    """The transpose of ``_add_later``."""
    if samples < target.shape[1]:
        target[:, : target.shape[1] - samples] += signal[:, samples:]


def _earlier(signal: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """Copies of ``signal`` side by side, each moved earlier by one of ``shifts``."""
    batch, time, width = signal.shape
    moved = signal.new_empty(batch, time, len(shifts) * width)
    for i, shift in enumerate(shifts):
        part = moved[..., i * width : (i + 1) * width]
        kept = max(0, time - shift)
        part[:, :kept] = signal[:, shift:]
        part[:, kept:] = 0
    return moved


def _relu_backward(grad: Tensor, output: Tensor) -> Tensor:
    """Gradient through a ReLU, given its output."""
    through: Tensor = torch.ops.aten.threshold_backward(grad, output, 0)
    return through
