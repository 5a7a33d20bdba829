"""The edge: HTTP, WebSocket, features, webhooks and everything that joins them."""
