"""How the face models are trained; imports neither Beam nor MediaPipe."""
