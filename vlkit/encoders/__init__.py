"""Image, text and fusion encoders: what every task shares."""
