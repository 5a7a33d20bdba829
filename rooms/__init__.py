"""Live rooms: actors that hold the seats, record who was there, and settle when it is over."""
