"""What is drawn for people to look at: sheets of frames, the monitor, the recalled frames."""
