"""Vision-language navigation: follow an instruction through a building."""
