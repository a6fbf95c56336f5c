"""Links and storages that only tests name, by their dotted names in a configuration."""
