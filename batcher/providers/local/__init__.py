"""The local tier: small language models in a child process, on the CPU, from pip alone."""
