"""The version, apart from the package's public names: what needs only the number imports nothing else."""

__all__ = ["__version__"]

__version__ = "0.1.0"
