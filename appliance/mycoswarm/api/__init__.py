"""Layer 7: HTTP for people, clients and peers: routes, authentication, errors."""
