"""The embedded simulator: batched RGB, depth and semantics on tensors, and navigation, from any triangle mesh."""
