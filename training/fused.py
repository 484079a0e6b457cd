"""The network's layers with hand-written gradients, for fast training on a CPU.

The same mathematics as ``model.network``, whose modules keep the weights: the residual layers of
the encoder, and those of the decoder, are one autograd function each. torch multiplies matrices;
``numba_kernels.residual`` does everything between two products in one pass over memory. Every
activation is in the compute dtype, every sum in float32. Tests hold outputs and gradients to
``model.network``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from model.config import SILENCE, ModelConfig
from model.network import Decoder, DecoderLayer, Encoder, EncoderLayer
from numba_kernels import residual


class EncoderLayers(Function):
    """The encoder's residual layers: ReLU, three taps, ReLU, 1x1, residual."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        taps: Tensor,
        taps_bias: Tensor,
        mix: Tensor,
        mix_bias: Tensor,
        dilations: Sequence[int],
        causal: bool,
    ) -> Tensor:
        """hidden: (batch, time, width). taps: (layers, 3 width, width), oldest first.

        mix: (layers, width, width). Biases: (layers, width) float32.
        """
        batch, time, width = hidden.shape
        saved = []
        rectified = torch.relu(hidden)
        for i, dilation in enumerate(dilations):
            products = _rows(rectified) @ taps[i].t()
            mixed = torch.empty_like(hidden)
            _each(
                residual.taps_forward, batch, products, taps_bias[i], mixed, time, width, dilation
            )
            saved += [rectified, mixed]
            products = _rows(mixed) @ mix[i].t()
            following, rectified = torch.empty_like(hidden), torch.empty_like(hidden)
            centre = 0 if causal else dilation
            _each(
                residual.around_forward,
                batch,
                *(hidden, products, mix_bias[i], following, rectified),
                *(time, width, centre),
            )
            hidden = following
        ctx.save_for_backward(taps, mix, *saved)
        ctx.dilations, ctx.causal = dilations, causal
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        taps, mix, *saved = ctx.saved_tensors
        grad = gradients[0].contiguous()
        batch, time, width = grad.shape
        grad_taps, grad_mix = torch.empty_like(taps), torch.empty_like(mix)
        grad_taps_bias = taps.new_empty(len(taps), width, dtype=torch.float32)
        grad_mix_bias = torch.empty_like(grad_taps_bias)
        around = grad.sum(1, dtype=torch.float32)
        by_tap = grad.new_empty(batch, time, 3 * width)
        for i in reversed(range(len(ctx.dilations))):
            dilation, rectified, mixed = ctx.dilations[i], saved[2 * i], saved[2 * i + 1]
            grad_mix[i] = _rows(grad).t() @ _rows(mixed)
            grad_mix_bias[i] = around.sum(0)
            sums = torch.empty_like(around)
            _each(
                residual.taps_backward,
                batch,
                *(_rows(grad) @ mix[i], mixed, by_tap, sums, time, width, dilation),
            )
            grad_taps[i] = _rows(by_tap).t() @ _rows(rectified)
            grad_taps_bias[i] = sums.sum(0)
            through, grad_hidden = _rows(by_tap) @ taps[i], torch.empty_like(grad)
            centre = 0 if ctx.causal else dilation
            _each(
                residual.around_backward,
                batch,
                *(through, rectified, grad, grad_hidden, around, time, width, centre),
            )
            grad = grad_hidden
        return grad, grad_taps, grad_taps_bias, grad_mix, grad_mix_bias, None, None


class DecoderLayers(Function):
    """The decoder's residual layers: two taps and the latent, gate, 1x1 to residual and skip."""

    @staticmethod
    def forward(
        ctx: Any,
        signal: Tensor,
        frames: Tensor,
        taps: Tensor,
        output: Tensor,
        bias: Tensor,
        dilations: Sequence[int],
        hop: int,
    ) -> Tensor:
        """signal: (batch, time, width). frames: (batch, time / hop, layers, 2 width).

        taps: (layers, 4 width, width), the past's then the current. output: (layers, width +
        skips, width). bias: (layers, width + skips) float32. Returns the sum of the skips,
        (batch, time, skips) float32.
        """
        batch, time, width = signal.shape
        skips = output.shape[1] - width
        stride = frames.shape[2] * 2 * width
        skip = signal.new_zeros(batch, time, skips, dtype=torch.float32)
        saved = []
        for i, dilation in enumerate(dilations):
            products = _rows(signal) @ taps[i].t()
            halves = signal.new_empty(batch, time, 2 * width)
            gated, following = torch.empty_like(signal), torch.empty_like(signal)
            _each(
                residual.gate_forward,
                batch,
                *(products, _from_layer(frames, i), halves, gated),
                *(time, hop, width, stride, dilation),
            )
            saved += [signal, halves, gated]
            products = _rows(gated) @ output[i].t()
            _each(
                residual.residual_forward,
                batch,
                *(signal, products, bias[i], following, skip, time, width, skips),
            )
            signal = following
        ctx.save_for_backward(taps, output, *saved)
        ctx.dilations, ctx.hop, ctx.frames = dilations, hop, frames.shape
        return skip

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        taps, output, *saved = ctx.saved_tensors
        (grad_skip,) = gradients
        batch, time, width = saved[0].shape
        skips = grad_skip.shape[-1]
        stride = ctx.frames[2] * 2 * width
        grad_frames = grad_skip.new_zeros(ctx.frames, dtype=torch.float32)
        grad_taps, grad_output = torch.empty_like(taps), torch.empty_like(output)
        grad_bias = grad_skip.new_empty(output.shape[:2], dtype=torch.float32)
        grad_bias[:, width:] = grad_skip.sum((0, 1), dtype=torch.float32)
        # The signal's gradient lies beside the skip's, which is the same for all layers.
        grads = taps.new_zeros(batch, time, width + skips)
        grads[..., width:] = grad_skip
        sums = grad_frames.new_zeros(batch, width)
        by_tap = taps.new_empty(batch, time, 4 * width)
        for i in reversed(range(len(ctx.dilations))):
            signal, halves, gated = saved[3 * i : 3 * i + 3]
            grad_output[i] = _rows(grads).t() @ _rows(gated)
            grad_bias[i, :width] = sums.sum(0)
            _each(
                residual.gate_backward,
                batch,
                *(_rows(grads) @ output[i], halves, by_tap, _from_layer(grad_frames, i)),
                *(time, ctx.hop, width, stride, ctx.dilations[i]),
            )
            grad_taps[i] = _rows(by_tap).t() @ _rows(signal)
            through = _rows(by_tap) @ taps[i]
            _each(residual.residual_backward, batch, through, grads, sums, time, width, skips)
        grad_signal = grads[..., :width]
        return grad_signal, grad_frames, grad_taps, grad_output, grad_bias, None, None


def encode(encoder: Encoder, levels: Tensor, dtype: torch.dtype) -> Tensor:
    """``encoder(levels)`` with activations in ``dtype``; returns float32 latents."""
    config = encoder.config.encoder
    hidden = encoder.front(F.pad(levels, (0, config.lookahead_samples))[..., None]).to(dtype)
    layers = [layer for layer in encoder.layers if isinstance(layer, EncoderLayer)]
    hidden = EncoderLayers.apply(  # type: ignore[no-untyped-call]
        hidden,
        torch.stack([layer.dilated.weight.flatten(0, 1) for layer in layers]).to(dtype),
        torch.stack([layer.dilated.bias for layer in layers]),
        torch.stack([layer.mix.weight for layer in layers]).to(dtype),
        torch.stack([layer.mix.bias for layer in layers]),
        config.dilations,
        config.causal,
    )
    heard = hidden[:, config.lookahead_samples :].unflatten(1, (-1, encoder.config.hop_samples))
    latents: Tensor = encoder.latent(heard.mean(2, dtype=torch.float32))
    return latents


def decode(
    config: ModelConfig,
    decoder: Decoder,
    codes: Tensor,
    latents: Tensor,
    accent: Decoder | None = None,
) -> Tensor:
    """``decoder(codes, latents)`` with activations in the dtype of ``latents``.

    accent: the decoder whose gates' biases are used, if not its own.
    """
    dtype = latents.dtype
    known = F.pad(codes, (1, 0), value=SILENCE)[:, :-1]
    layers = [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]
    accented = [one for one in (accent or decoder).layers if isinstance(one, DecoderLayer)]
    frames = F.linear(
        latents,
        torch.cat([layer.condition.weight for layer in layers]).to(dtype),
        torch.cat([layer.current.bias for layer in accented]).to(dtype),
    )
    skip = DecoderLayers.apply(  # type: ignore[no-untyped-call]
        F.embedding(known, decoder.embedding.weight.to(dtype)),
        frames.unflatten(-1, (len(layers), -1)).contiguous(),
        torch.stack([torch.cat([one.past.weight, one.current.weight]) for one in layers]).to(dtype),
        torch.stack([layer.output.weight for layer in layers]).to(dtype),
        torch.stack([layer.output.bias for layer in layers]),
        config.decoder.dilations,
        config.hop_samples,
    )
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        logits: Tensor = decoder.head(skip.to(dtype), latents)
    return logits


def best_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware, else float32."""
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def _rows(signal: Tensor) -> Tensor:
    return signal.flatten(0, 1)


def _from_layer(frames: Tensor, layer: int) -> Tensor:
    """Frames (batch, hops, layers, channels), flat, from the first of a layer on."""
    return frames.view(-1)[layer * frames.shape[-1] :]


def _each(kernel: Callable[..., None], batch: int, *arguments: Tensor | int) -> None:
    """Run a kernel over all segments of a batch, shared out over torch's number of threads."""
    flat = [_flat(one) if isinstance(one, Tensor) else one for one in arguments]
    threads = min(torch.get_num_threads(), batch)
    first, *rest = pairwise(batch * i // threads for i in range(threads + 1))
    others = [_pool().submit(kernel, *flat, *bounds) for bounds in rest]
    kernel(*flat, *first)
    for other in others:
        other.result()


def _flat(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    array: NDArray[Any] = tensor.detach().view(-1).numpy()
    return array


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="umt-train")
