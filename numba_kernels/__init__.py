"""CPU kernels: a SIMD vocabulary for numba, packed weights, the encoder and the sample loop."""
