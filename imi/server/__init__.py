"""The HTTP API: imi/openapi.yaml routes a request to one call of one SQL function, whose answer is passed on.

errors    the one form of every error, and what PostgreSQL's states mean in HTTP
contract  the document: routes, checks, statements, and the catalogue that judges it
calls     from a statement and texts to an answer: pools, the one repeat, batches
auth      keys and scopes, origins and hosts
observe   metrics
pages     what is served without the database
app       the request's way through all of these, and the server's life
"""
