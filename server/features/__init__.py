"""What the product can do, one package a feature; each lists its commands, and `server/commands.py` lists the features."""
