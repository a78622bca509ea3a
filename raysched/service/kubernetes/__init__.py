"""Sweeps on Kubernetes: one RayJob for each, made here, checked here, and given to KubeRay's operator."""
