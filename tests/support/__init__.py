"""What the tests share: a vendor of language models on loopback, with its own bill and scripted faults."""
