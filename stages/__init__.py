"""The pipeline's stages: each a pure function and a thin `main` that reads and writes artifacts."""

import gc
import os

# Importing torch makes many objects and no garbage; collecting meanwhile costs 0.15 to 0.4 s a stage. `run` in
# stages.shared.start turns the collector on again.
gc.disable()

# Arrow's own allocator keeps 40 MB and more for what comes next. It is chosen when pyarrow is imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
