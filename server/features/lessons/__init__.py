"""Live rooms as people use them: who may enter, seats, media, chat, attendance."""
