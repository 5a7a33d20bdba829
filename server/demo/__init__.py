"""The main job from nothing, in under a minute: a real server, real sockets, signed webhooks (PROTOCOL 1)."""
