"""What the released detector is made of beside the CNN: cepstral statistics, and the ensemble of all members."""
