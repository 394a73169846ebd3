"""Layers that stand in for those of transformers' models, where a CPU computes them faster."""
