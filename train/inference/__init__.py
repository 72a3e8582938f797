"""A trained model on files: classes, vectors, pictures, scores, other formats."""
