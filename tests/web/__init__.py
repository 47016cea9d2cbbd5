"""A package, so that fixtures can be of the package: they end where its tests end."""
