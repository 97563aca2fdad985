"""Child processes: started without fork, never outliving this process, restarted when they end."""
