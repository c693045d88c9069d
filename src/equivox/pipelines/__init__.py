"""What a user runs: plan, preprocess, train, predict, evaluate, demo."""
