"""What people are told of what happened: a record each, in their language, pushed to their own channel."""
