"""What several families of tasks share: training, features, transforms, pictures."""
