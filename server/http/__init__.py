"""Everything that speaks HTTP: the commands' door, what stands around it, contract, health and share pages."""
