"""The streaming engine: rings, resampling, the signal chain, domain switching, controls, meter."""
