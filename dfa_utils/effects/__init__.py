"""What changes a sound: training augmentation, the damage that robustness is measured with, vocoders."""
