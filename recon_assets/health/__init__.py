"""`recon doctor`: the health of the database and of the sources, measured without changing anything."""
