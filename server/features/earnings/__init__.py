"""What tutors earn, and how it leaves: payout accounts and withdrawals."""
