"""What probabilities are worth: calibration, predicted Dice, selection by confidence, diversity of samples."""
