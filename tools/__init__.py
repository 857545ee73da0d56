"""What maintainers run: releases, audits."""
