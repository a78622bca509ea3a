"""raysched: a distributed sweep service on Ray for adapter-based zero-shot cross-lingual transfer."""

__version__ = "0.1.0"
