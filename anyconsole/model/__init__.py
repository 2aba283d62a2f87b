"""What is: the inventory, the facts observed of it, and the verdicts derived from both. No I/O, no asyncio, no Textual."""
