"""Child processes: started without fork, stopped with this process, restarted if they end."""
