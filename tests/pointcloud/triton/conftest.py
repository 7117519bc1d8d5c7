"""The fixtures of kernels in Triton's interpreter."""

from interpreter import guarded, interpreted

__all__ = ["guarded", "interpreted"]
