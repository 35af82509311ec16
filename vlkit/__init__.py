"""vlkit: vision-language agents. Shared encoders, tasks that use them, and the environments they act in."""

__version__ = "0.1.0"
