"""Running tools on this node: what they are, the sandbox around them, workspaces, and the tickets they need."""
