"""What mien knows about faces: numpy and torch in, numpy and bytes out. Never imports Beam."""
