"""Bridges to torch: the only place where `bayesdl` touches it. Nothing here is imported unless it is used."""
