"""Generated houses: floor plans, furniture, instructions for walks through them, and the files of a benchmark."""
