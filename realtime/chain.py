"""The whole signal path as one synchronous object: a block in, whatever is complete out.

Files and the live engine run the same chain. Its output is a timeline locked to the input: sample
j of the output sounds at input time j - ``delay_samples``, for every j, whatever the block sizes.
The dry path stays at the device's rate and full bandwidth; a delay line brings it to the same
place in time as the translation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.config import SAMPLE_RATE
from model.errors import ShapeError
from numba_kernels.mixing import copy_clean, ramp_gain
from realtime.backends import Backend, rest_states, warm_up
from realtime.controls import Controls
from realtime.latents import LatentShaper
from realtime.meter import Meter
from realtime.mix import Mixer, linear
from realtime.priming import Primer
from realtime.resample import PolyphaseResampler
from realtime.state import kernel_input
from realtime.switch import DomainPlayer, Target

Audio = NDArray[np.float32]

# Input resumes over this time after a gap.
_FADE_S = 0.002


class Chain:
    """Resampling, encoder, decoder, gains, limiter and mix, from the warm rest state."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        rate: int = SAMPLE_RATE,
        seed: int = 0,
        *,
        controls: Controls | None = None,
        meter: Meter | None = None,
        background: bool = False,
        joins: Mapping[int, bool] | None = None,
    ):
        """Allocate every buffer and compile every kernel.

        rate: of the input and the output, in Hz.  controls: in force from the first sample.
        background: prime decoders for a domain switch on a helper thread, as live playing needs;
        otherwise a run is determined by bundle, backend, input, seed and controls.  joins: as
        ``on_join`` told them when this was played before, which is then played again.
        Raises ConfigError for an unsupported rate or seed, UnknownDomain for a missing domain.
        """
        self.bundle = bundle
        self.config = bundle.config
        self.rate = rate
        self.seed = seed
        self.meter = Meter(self.config.hop_s) if meter is None else meter
        self._backend = backend
        self._down = PolyphaseResampler(rate, SAMPLE_RATE)
        self._up = PolyphaseResampler(SAMPLE_RATE, rate)
        self._controls = Controls() if controls is None else controls
        bundle.domain_index(self._controls.domain)
        warm_up(backend)
        self._rest = rest_states(backend)
        self._allocate()
        self._background = False
        self._joins = joins
        self.on_join: Callable[[int, bool], None] | None = None
        """Told at which hop a second voice comes in, and whether in a hurry."""
        self._begun = False
        self._primer: Primer | None = None
        self._player: DomainPlayer | None = None
        self._warm_up()
        # The helper thread begins last: a chain that could not be built leaves none behind.
        self._background = background
        self.reset()

    @property
    def delay_s(self) -> float:
        """Time by which the output lags the input, before any ring or device."""
        network = self.config.algorithmic_delay_samples / SAMPLE_RATE
        return self._down.delay_s + network + self._up.delay_s

    @property
    def delay_samples(self) -> int:
        """The dry path's exact delay at the device's rate; the wet path's within half a sample."""
        return round(self.delay_s * self.rate)

    @property
    def controls(self) -> Controls:
        """In force at the next hop."""
        return self._controls

    @property
    def resampling_delay_s(self) -> tuple[float, float]:
        """Delay of resampling on the way in and on the way out."""
        return self._down.delay_s, self._up.delay_s

    @property
    def piece_frames(self) -> int:
        """The longest block, in frames, that completes one hop at most."""
        return max(1, self.config.hop_samples * self.rate // SAMPLE_RATE)

    @property
    def skip_unit(self) -> int:
        """The least number of frames that is a whole number of hops: what ``skip`` drops."""
        per_hop = self.config.hop_samples * self.rate
        return per_hop // math.gcd(per_hop, SAMPLE_RATE)

    def most_output(self, frames: int) -> int:
        """The most samples that a block of ``frames`` can bring out."""
        return self._up.most_output(self._down.most_output(frames) + 2 * self.config.hop_samples)

    def process(self, block: Audio, controls: Controls | None = None) -> Audio:
        """Process one block into a fresh array; see ``process_into``."""
        out = np.empty(self.most_output(len(block)), np.float32)
        return out[: self.process_into(block, out, controls)]

    def process_into(self, block: Audio, out: Audio, controls: Controls | None = None) -> int:
        """Process one block, writing all output that is complete.

        block: (time,) float32, any length; NaN and denormals count as silence.  out: (at least
        ``most_output(time)``,) float32, overwritten from its start, within [-1, 1].
        controls: read at each hop that completes; None keeps the previous ones.
        Returns the number of samples written; after n inputs, at least n in all.
        Raises ShapeError for anything else than one-dimensional float32, UnknownDomain.
        """
        if block.ndim != 1 or block.dtype != np.float32:
            raise ShapeError(
                f"audio must be one-dimensional float32, got {block.dtype} {block.shape}"
            )
        if len(out) < self.most_output(len(block)):
            raise ShapeError(
                f"out must hold {self.most_output(len(block))} samples, got {len(out)}"
            )
        if controls is not None:
            self.bundle.domain_index(controls.domain)
            self._controls = controls
        written = 0
        if not self._begun:
            # The hop that would have come out had the stream begun before the timeline did.
            self._begun = True
            written = self._emit(np.zeros(self.config.hop_samples, np.float32), out)
        for start in range(0, len(block), self.piece_frames):
            piece = block[start : start + self.piece_frames]
            written += self._process_piece(piece, out[written:])
        return written

    def flush(self, controls: Controls | None = None) -> Audio:
        """What is still inside: the output so far and this are input plus ``delay_samples`` long.

        The timeline ends here; ``reset`` begins another.
        """
        wanted = self.frames_in + self.delay_samples - self.frames_out
        silence = np.zeros(self.delay_samples, np.float32)
        return self.process(silence, controls)[: max(wanted, 0)]

    def skip(self, units: int) -> int:
        """Drop ``units`` times ``skip_unit`` frames of input, and as much of the output timeline.

        As if the input had been silent and the network asleep: what was inside the chain is
        dropped too, since it would come out late, and the input after it is faded in.
        Returns the number of frames.
        """
        frames = units * self.skip_unit
        self.frames_in += frames
        self.frames_out += frames
        self._playing.skip(frames * SAMPLE_RATE // (self.rate * self.config.hop_samples))
        self._forget_input()
        return frames

    def reset(self, seed: int | None = None) -> None:
        """Back to the warm rest state and the start of a timeline, with the controls in force.

        seed: of the new run; None keeps the present one.
        """
        self.seed = self.seed if seed is None else seed
        if self._background and self._primer is None:
            self._primer = Primer()
        self._rest_network(played=0)
        self._encoder_state = self._rest.encoder.copy()
        self._down.reset()
        self._up.reset()
        self._mixer.reset(self._controls)
        self.frames_in: int = 0
        """Input frames so far, skipped ones included."""
        self.frames_out: int = 0
        """Output samples so far, skipped ones included."""
        self._begun = False
        self._filled: int = 0
        self._faded_in = self._fade_frames
        self._gain_in = linear(self._controls.gain_in)
        self._peak_in = 0.0
        self._seedings, self._panics = self._controls.seedings, self._controls.panics

    def hurry(self, wanted: bool) -> None:
        """Whether a helper thread, if there is one, is to come before all that is not real-time."""
        if self._primer is not None:
            self._primer.hurry(wanted)

    def close(self) -> None:
        """End the helper thread, if there is one; ``reset`` would begin another."""
        if self._player is not None:
            self._player.abandon()
        if self._primer is not None:
            self._primer.close()
            self._primer = None

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _playing(self) -> DomainPlayer:
        assert self._player is not None
        return self._player

    def _allocate(self) -> None:
        hop, piece = self.config.hop_samples, self.piece_frames
        self._piece = np.zeros(piece, np.float32)
        self._narrow = np.zeros(self._down.most_output(piece), np.float32)
        self._heard = np.zeros(hop, np.float32)
        self._wide = np.zeros(self._up.most_output(hop), np.float32)
        self._mixer = Mixer(self.delay_samples, 4 * len(self._wide) + 2 * piece)
        self._fade_frames = round(_FADE_S * self.rate)

    def _warm_up(self) -> None:
        # Every kernel around the network is compiled here, on scraps, so that the first live hop
        # takes no longer than the next.
        self.reset()
        scrap = np.zeros(2 * self.piece_frames, np.float32)
        meter, self.meter = self.meter, Meter(self.config.hop_s)
        self.process(scrap)
        self.meter = meter

    def _forget_input(self) -> None:
        """What was heard is dropped, as if it had been silent; what comes is faded in."""
        self._down.forget()
        self._up.forget()
        self._mixer.forget()
        self._encoder_state = self._rest.encoder.copy()
        self._heard[: self._filled] = 0.0
        self._faded_in = 0

    def _rest_network(self, played: int) -> None:
        """Decoders at rest, in the domain that is asked for, sampling from the seed's beginning."""
        if self._player is not None:
            self._player.abandon()
        self._player = DomainPlayer(
            self._backend.decoders,
            self._rest.decoders,
            self._rest.latent,
            self._backend.temperatures,
            seed=self.seed,
            domain=self._controls.domain,
            primer=self._primer,
            threads=self._backend.threads,
            joins=self._joins,
            played=played,
        )
        self._player.on_join = self.on_join
        self._shaper = LatentShaper(self._rest.latent, self.config.hop_s, self.seed)

    def _process_piece(self, piece: Audio, out: Audio) -> int:
        clean = self._piece[: len(piece)]
        heard = kernel_input(piece)
        self._faded_in = copy_clean(heard, clean, self._faded_in, self._fade_frames)
        self._mixer.store(clean, self.frames_in)
        self.frames_in += len(piece)
        narrow = self._narrow[: self._down.process_into(clean, self._narrow)]
        written = 0
        for hop in self._hops_completed(narrow):
            written += self._emit(self._translate(hop), out[written:])
        return written

    def _hops_completed(self, heard: Audio) -> Iterator[Audio]:
        """Collect audio at 16 kHz, yielding each whole hop; valid until the next."""
        while len(heard):
            take = min(len(self._heard) - self._filled, len(heard))
            self._heard[self._filled : self._filled + take] = heard[:take]
            self._filled += take
            heard = heard[take:]
            if self._filled == len(self._heard):
                self._filled = 0
                yield self._heard

    def _translate(self, heard: Audio) -> Audio:
        started = perf_counter()
        if self._controls.seedings != self._seedings:
            self._seedings, self.seed = self._controls.seedings, self._controls.seed
            self._playing.seed(self.seed)
            self._shaper.seed(self.seed)
        gain_in = linear(self._controls.gain_in)
        self._peak_in = ramp_gain(heard, self._gain_in, gain_in)
        self._gain_in = gain_in
        latents = self._backend.encoder.encode(heard, self._encoder_state)
        assert len(latents) == 1, "the encoder is out of step with the chain"
        player, switches = self._playing, self._playing.switches
        shaped = self._shaper.shape(latents, player.hop, self._controls)
        controls = self._controls
        target = Target(controls.domain, controls.blend_domain, controls.blend)
        audio = player.play(shaped, target, controls.temperature)
        if player.switches != switches:
            self.meter.count_switch(player.last_switch_hops * self.config.hop_s)
        self.meter.count_hop(perf_counter() - started)
        return audio

    def _emit(self, narrow: Audio, out: Audio) -> int:
        wide = self._wide[: self._up.process_into(narrow, self._wide)]
        panic = self._controls.panics != self._panics
        self._mixer.mix(wide, self.frames_out, self._controls, out[: len(wide)], silent=panic)
        self.meter.show_levels(self._peak_in, self._mixer.peak)
        self.frames_out += len(wide)
        if panic:
            # What sounded has been faded out; the next hop begins as the first one did.
            self._panics = self._controls.panics
            self._forget_input()
            self._rest_network(self._playing.played)
        return len(wide)
