"""MCP servers that the owner registered: their tools as ours, in the sandbox or over HTTP."""
