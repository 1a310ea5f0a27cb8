"""Pictures of dictionaries and models: features laid out in two dimensions, and texts' paths through the layers."""
