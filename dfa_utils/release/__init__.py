"""How the released detector is chosen, trained and described; needed nowhere else."""
