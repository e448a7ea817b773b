"""What is in a data set, and how default boxes fit it: for people who look, not for training."""
