"""Tests with a connection pooler, with a network between `recon` and its database, and on disks that are full.

`make test-system` runs them; `make test` does not.
"""

from recon_assets_tests.support.network import can_make_hosts
from recon_assets_tests.support.requirements import Requirements

REQUIRED = Requirements(
    "test-system",
    packages={"pgbouncer": "pgbouncer", "ip": "iproute2"},
    abilities={
        "to make network namespaces, which is for root on Linux (in a container: a privileged one)": can_make_hosts
    },
)
