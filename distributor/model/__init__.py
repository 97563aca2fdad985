"""Domain rules as values and tables: no I/O, no clock, no asyncio. Times are arguments."""
