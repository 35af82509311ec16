"""Navigation in continuous space: an LSTM policy turns an instruction and frames into movements."""
