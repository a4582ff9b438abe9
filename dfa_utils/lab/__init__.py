"""What chooses and releases a detector, and is needed nowhere else: recipes, their comparison, the model card."""
