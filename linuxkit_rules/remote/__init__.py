"""Remote caches: what steps gave on other machines."""
