"""The PostgreSQL and the Redis that come with Signalbox, as child processes of whoever starts them."""
