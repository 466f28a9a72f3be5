"""Python imports this by itself at its start where the folder is on PYTHONPATH: kernels and child processes too."""

import loopback_only

loopback_only.refuse()
