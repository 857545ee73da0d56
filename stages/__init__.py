"""The pipeline's stages: each a pure function and a thin `main` that reads and writes artifacts."""
