"""The stream: the log as it grows, over WebSocket and Server-Sent Events.

wire      what is sent: messages, encoded once, and how each protocol frames them
limits    how long and how much
client    one connection
patterns  which of all patterns match an event type
audience  who gets what of a page
hub       the clients, the one reader that serves them all, and those who are still behind
tickets   the signed stand-in for a key that browsers use
door      from a request to a client, and to a ticket
"""
